"""Datasets of the Hugging Face hub, through the `datasets` library; with `dataset.path`, files on this machine."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from engine.data.report import Choice, Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Preview, Source
from engine.data.splits import assign_roles
from engine.data.tables.arrow_tables import ArrowTable, features_of
from engine.data.tables.configs import DEFAULT
from engine.data.tables.hub_errors import explain
from engine.data.tables.parquet import parquet_source
from engine.data.tables.saved import library_table
from engine.data.tables.source import READING, READS, Tables, TableSplit, columns_of, open_tables
from engine.errors import DataError, TeslaError, UsageError
from engine.settings.datasets import DatasetFacts


def hub_source(request: DataRequest, facts: DatasetFacts) -> Source:
    """A source over a hub dataset, or over local files of it instead.

    Raises:
        DataError: `dataset.path` holds none of its files.
    """
    if request.path is not None:
        return parquet_source(request, facts, request.path)
    return Source(
        request.name,
        f"Hugging Face {facts.hub}",
        # The datasets in presets.toml were read rightly before, too: their caches are as good.
        f"hub-{facts.hub}" if facts.classes else f"hub-{READING}-{facts.hub}",
        lambda: _open(request, facts),
        local=False,
        reads=READS,
        preview=lambda: _preview(request, facts),
    )


def _open(request: DataRequest, facts: DatasetFacts) -> OpenSource:
    config = request.config or facts.config or None
    with _library(request, facts) as datasets:
        try:
            loaded = datasets.load_dataset(facts.hub, config)
        except Exception as error:  # the library raises its own, the hub's, httpx's and pyarrow's errors
            _refuse(error, request, facts, datasets)
    cache = (
        datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH
    )  # fmt: skip
    roots = tuple(map(Path, cache))
    splits = {
        str(split): TableSplit(library_table(part, roots), "a split of the hub's dataset")
        for split, part in loaded.items()
    }
    used = next(iter(loaded.values())).info.config_name
    return open_tables(Tables(splits, _config(used, request, facts)), request, facts)


def _preview(request: DataRequest, facts: DatasetFacts) -> Preview:
    """Splits, columns and classes as the publisher describes them, without a download."""
    with _library(request, facts) as datasets:
        try:
            builder = datasets.load_dataset_builder(facts.hub, request.config or facts.config or None)
        except Exception as error:
            _refuse(error, request, facts, datasets)
    info = builder.info
    described = dict(info.splits or {})
    rows = {str(name): int(split.num_examples or 0) for name, split in described.items()}
    roles = assign_roles(
        list(rows), request.train_split, request.test_split, preferred=facts.test_split
    ) if rows else None  # fmt: skip
    splits = tuple(
        SplitFacts(
            name,
            "unused"
            if roles is None
            else "train"
            if name in roles.train
            else "test"
            if name == roles.test
            else "unused",
            count,
            "rows",
            f"a split of the hub's dataset; {roles.why[name] if roles is not None else ''}",
        )
        for name, count in rows.items()
    )
    columns, classes = None, ()
    if info.features is not None:
        schema = info.features.arrow_schema
        table = ArrowTable(schema.empty_table(), features_of(schema), (), facts.hub)
        columns = columns_of(table, request, facts)
        classes = tuple(getattr(info.features.get(columns.label), "names", None) or ())
    note = "This is what the publisher says; nothing is downloaded yet, and no image was looked at."
    choice = _config(builder.config.name, request, facts)
    listing = Listing(splits, choice, columns.facts if columns is not None else (), notes=(note,))
    return Preview(listing, classes, int(info.download_size or 0))


def _config(used: str | None, request: DataRequest, facts: DatasetFacts) -> Choice | None:
    if request.config is not None:
        return Choice(request.config, f"dataset.config = {request.config}")
    if facts.config:
        return Choice(facts.config, f"the usual configuration of {request.name}")
    if used is None or used == DEFAULT:
        return None
    return Choice(used, "the default of the hub's dataset")


@contextmanager
def _library(request: DataRequest, facts: DatasetFacts) -> Iterator[Any]:
    """The `datasets` library, told not to wait for a network that is not there: it would retry for half a minute.

    It reads the environment when it is imported, which may have been long ago, and the network may come back.
    """
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if Path(facts.hub).exists():  # the library would take the folder, whatever is in it
        raise DataError(
            f"{facts.hub} is both a local folder and the id of a hub dataset.",
            "To use the folder, set dataset.path to it.",
        )
    import datasets
    from huggingface_hub import constants

    if not os.environ.get("TESLA_HUB_PROGRESS"):
        datasets.disable_progress_bars()
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not _reachable():  # what is already downloaded still opens
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield datasets
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _refuse(error: Exception, request: DataRequest, facts: DatasetFacts, datasets: Any) -> NoReturn:
    if isinstance(error, TeslaError):
        raise error

    def configs() -> list[str]:
        return list(map(str, datasets.get_dataset_config_names(facts.hub)))

    usage, message, hint = explain(error, request, facts, configs, Path(datasets.config.HF_CACHE_HOME))
    raise (UsageError if usage else DataError)(message, hint) from error


def _reachable() -> bool:
    """Whether the hub's host answers; with a proxy only the library itself knows."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
    except OSError:
        return False
    return True

"""The only entry to datasets: `find_source` locates a dataset by its name, a folder, or a hub id.

To add one: its table in engine/settings/presets.toml. That is enough for a Hugging Face dataset; if files on
this machine come first, `code` in that table names a `Find` in a module here. Other packages: see docs/plugins.md.
"""

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.request import DataRequest
from engine.data.sources import EVERY, Source
from engine.errors import DataError, UsageError
from engine.settings.code import load_object
from engine.settings.datasets import DatasetFacts, dataset_facts, dataset_names, dataset_plugins, own_datasets
from engine.settings.plugins import refusals
from engine.settings.trust import load_plugin
from engine.storage.reading import unreadable
from engine.storage.untrusted import open_regular

Find = Callable[[DataRequest], Source | None]
"""The source of a request, or None: not on this machine, use the hub. A plugin's function is called with
`(name, path, on_bad_file)` instead."""

FOLDER = "folder"
"""The name of a dataset that is its path."""
PARQUET = b"PAR1"
"""First bytes of a Parquet file."""
DEEPEST = 3
"""Folders below a dataset's path that are searched for Parquet files."""
MOST_FILES = 100_000
"""Files whose endings are looked at; a folder with more pictures than that holds pictures."""
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
"""Endings that tell pictures from tables; what is a picture is decided by the file."""


def find_source(request: DataRequest) -> Source:
    """Locate a dataset: a known name, `folder`, or a hub id `owner/name`.

    Raises:
        UsageError: an unknown name, a setting that has no effect on the dataset, or the code of a plugin without
            consent, or that fails.
        DataError: the path is missing or of the wrong kind.
    """
    source = _located(request)
    for key, value in request.changed().items():
        if key != "path" and key not in EVERY | source.reads:
            raise UsageError(
                f"dataset.{key} = {value} has no effect on {source.description}.",
                f"Remove dataset.{key}. Settings that have one: {', '.join(sorted(EVERY | source.reads))}.",
            )
    return source


def _located(request: DataRequest) -> Source:
    name, path = request.name, request.path
    if path is not None and not path.exists():
        raise DataError(
            f"dataset.path = {path} does not exist.",
            "Check the spelling; it is relative to the workspace's folder. If the files were moved, set it in "
            "tesla.toml for new runs; for runs that exist, move them back or put a link there (`ln -s NEW OLD`).",
        )
    facts = dataset_facts(name)
    if name == FOLDER and path is not None and _is_table(path):
        return _from_hub(request, DatasetFacts(name))
    if facts is not None and facts.code and name in dataset_names():
        found = _finder(name, facts)(request)
        if found is not None:
            return found
    if (facts is not None and facts.hub) or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        from engine.data.folders.source import find_pictures

        pictures = find_pictures(request)  # `dataset.path` may hold its pictures instead of its tables
        return pictures or _from_hub(request, facts or DatasetFacts(name, hub=name))
    raise UsageError(*_unknown(name))


def _from_hub(request: DataRequest, facts: DatasetFacts) -> Source:
    from engine.data.tables.hub import hub_source

    return hub_source(request, facts)


def _is_table(path: Path) -> bool:
    """Whether a path is a Parquet file, a folder of them, or one that `datasets` saved.

    Raises:
        DataError: Parquet files beside folders of pictures.
    """
    from engine.data.tables.saved import is_saved

    if path.is_dir():
        if is_saved(path):
            return True
        tables, pictures = _kinds_in(path)
        if tables and pictures:
            raise DataError(
                f"dataset.path = {path} has Parquet files ({tables}) and pictures ({pictures}): one dataset or two?",
                "Set dataset.path to the Parquet file or its folder, or to the folder of the pictures.",
            )
        return bool(tables)
    with open_regular(path) as file:
        return file.read(len(PARQUET)) == PARQUET or path.suffix.lower() == ".parquet"


def _kinds_in(folder: Path) -> tuple[str, str]:
    """The first Parquet file and the first picture below a folder, as relative paths; empty where there is none."""
    tables = pictures = ""
    looked = 0
    for place, folders, files in os.walk(folder, onerror=_refused):
        looked += len(files)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        deep = len(Path(place).relative_to(folder).parts)
        if deep >= DEEPEST:
            folders.clear()
        for path in map(Path(place).joinpath, files):
            suffix = path.suffix.lower()
            if suffix == ".parquet" and path.stem != "metadata":  # which describes the pictures beside it
                tables = tables or str(path.relative_to(folder))
            elif suffix in PICTURES and deep:  # a README's picture lies beside the tables, not in a folder of a class
                pictures = pictures or str(path.relative_to(folder))
        if (tables and pictures) or looked > MOST_FILES:
            break
    return tables, pictures


def _refused(error: OSError) -> None:
    if not isinstance(error, PermissionError):  # that is for the reader of the pictures, which may skip the folder
        raise unreadable(error, Path(error.filename)) from error


def _finder(name: str, facts: DatasetFacts) -> Find:
    plugin = dataset_plugins().get(name)
    if plugin is None:
        finder: Find = load_object(facts.code)
        return finder
    loaded: Any = load_plugin(plugin)
    if not callable(loaded):
        raise UsageError(
            f"{plugin.target} cannot be called, but {plugin.words} must be a function.", "Report it to its author."
        )

    def checked(request: DataRequest) -> Source | None:
        source = loaded(request.name, request.path, request.on_bad_file)
        if source is not None and not isinstance(source, Source):
            raise UsageError(
                f"{plugin.target} returned a {type(source).__name__}, not an engine.data.sources.Source.",
                "Report it to its author.",
            )
        return source

    return checked


def _unknown(name: str) -> tuple[str, str]:
    """Message and hint for an unknown dataset."""
    for plugin, reason in refusals("dataset", own_datasets()):
        if plugin.name == name:
            return plugin.sentence(f"cannot be used: {reason}."), "`tesla doctor` lists all plugins."
    names = dataset_names()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    known = ", ".join(other for other in names if other != FOLDER)
    return (
        f"There is no dataset {name!r}, and no file or folder of that name.",
        f"{hint}Known: {known}; or the path of a folder, zip or Parquet file, or a hub id owner/name.",
    )

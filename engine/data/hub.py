"""Datasets of the Hugging Face hub, or Parquet files laid out like them, through the `datasets` library."""

import io
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from engine.data.dataset import Classes
from engine.data.pictures import BAD_FILE, decoded, opened
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, SourceSplit, file_key
from engine.errors import DataError
from engine.settings.datasets import DatasetFacts
from engine.storage.filesystem import format_bytes
from engine.storage.untrusted import open_regular, read_bounded

TRAIN_SPLITS = ("train",)
TEST_SPLITS = ("test", "valid", "validation", "val")
MOST_BYTES = 2**30
"""Bytes of one picture's file."""
ROWS = 100
"""Rows of a Parquet file unpacked at once; the hub's own picture files have as many in a group."""
MOST_ROWS = 10**9
MOST_COLUMNS = 1000
MOST_UNPACKED = 1000
"""How many times its size a Parquet file may claim to unpack to; pictures are compressed already."""


def hub_source(request: DataRequest, facts: DatasetFacts) -> Source:
    """A source over a hub dataset, or over local Parquet files instead."""
    name, path = request.name, request.path
    if path is None:
        what, key = f"Hugging Face {facts.hub}", f"hub-{facts.hub}"
        return Source(name, what, key, lambda: _open(name, facts, None), local=False)
    parquet = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not parquet:
        raise DataError(
            f"{path} holds no Parquet files for {name}.", "Set dataset.path to the folder of a downloaded dataset."
        )
    return Source(
        name, f"{name}, Parquet files in {path}", f"parquet-{file_key(parquet)}", lambda: _open(name, facts, parquet)
    )


def _open(name: str, facts: DatasetFacts, parquet: list[Path] | None) -> OpenSource:
    loaded = _load(name, facts, parquet)
    train_name = next((split for split in TRAIN_SPLITS if split in loaded), None)
    if train_name is None:
        raise DataError(f"{name} has no split `train`; it has {', '.join(loaded)}.", "Choose another dataset.")
    train = loaded[train_name]
    image_column = next((key for key, value in train.features.items() if type(value).__name__ == "Image"), None)
    if image_column is not None:
        loaded = _undecoded(loaded, image_column)
        train = loaded[train_name]
    label_column = facts.label_column or next(
        (key for key, value in train.features.items() if type(value).__name__ == "ClassLabel"), None
    )
    if label_column is None and "label" in train.features:
        label_column = "label"
    if image_column is None or label_column is None or label_column not in train.features:
        raise DataError(
            f"{name} has no image column or no class label: its columns are {', '.join(train.features)}.",
            "It must have one of type Image and one of type ClassLabel.",
        )
    feature = train.features[label_column]
    labels = _labels(name, train, train_name, label_column)
    if labels.min() < 0:
        raise DataError(f"{name}: the split {train_name} has images without a class.", "Choose another dataset.")
    # A test split with secret labels (-1) measures nothing: use the next one, else a part of train.
    test_labels, test_name = None, None
    for candidate in dict.fromkeys((facts.test_split or TEST_SPLITS[0], *TEST_SPLITS)):
        if candidate in loaded and len(loaded[candidate]):
            found = _labels(name, loaded[candidate], candidate, label_column)
            if found.min() >= 0:
                test_labels, test_name = found, candidate
                break
    classes = tuple(getattr(feature, "names", None) or map(str, range(int(labels.max()) + 1)))

    def split(of: str, numbers: Classes) -> SourceSplit:
        return SourceSplit(numbers, lambda i: _picture(name, loaded[of], of, image_column, int(i)))

    test = split(test_name, test_labels) if test_name is not None and test_labels is not None else None
    return OpenSource(classes, None, None, split(train_name, labels), test)


def _undecoded(loaded: Any, column: str) -> Any:
    """The splits with the files of pictures instead of pictures: the library would open any format and any address."""
    import datasets

    return {
        split: part.cast_column(column, datasets.Image(decode=False)) if column in part.features else part
        for split, part in loaded.items()
    }


def _labels(name: str, part: Any, split: str, column: str) -> Classes:
    """Class numbers of a split; -1 where the publisher withholds them."""
    values = np.asarray(part[column]) if len(part) else np.empty(0)
    if values.dtype.kind not in "iu":
        what = f"the column {column!r} does not hold class numbers" if len(values) else "there are no images"
        raise DataError(f"{name}: in the split {split} {what}.", "Its labels must be of type ClassLabel or integers.")
    return values.astype(np.int64)


def _picture(name: str, part: Any, split: str, column: str, i: int) -> Any:
    value = part[i][column]
    data = value.get("bytes") if isinstance(value, dict) else None
    try:
        if data is None and isinstance(value, dict) and value.get("path"):
            data = _cached_bytes(value["path"])
        if data is not None:
            with opened(io.BytesIO(data)) as picture:
                return decoded(picture, upright=True)
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{name}: image {i} of the split {split} cannot be decoded ({error}).", BAD_FILE) from error
    raise DataError(f"{name}: row {i} of the split {split} has no image.", BAD_FILE)


def _cached_bytes(path: str) -> bytes:
    """A picture that the library keeps in a separate file.

    Any other path in a table was chosen by its author, and would open a local file or an address.
    """
    import datasets

    roots = (datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH)
    whole = Path(path).resolve()
    if not any(whole.is_relative_to(Path(root).resolve()) for root in roots):
        raise ValueError("the row holds a path instead of an image")
    return read_bounded(whole, MOST_BYTES)


def _load(name: str, facts: DatasetFacts, parquet: list[Path] | None) -> Any:
    hub_id = facts.hub
    # A machine without a network should fail in seconds, not after minutes of retries.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if parquet is None and not _reachable():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read on import: what is already downloaded still opens
    import datasets

    if not os.environ.get("TESLA_HUB_PROGRESS"):
        datasets.disable_progress_bars()
    try:
        if parquet is None:
            if Path(hub_id).exists():  # the library would take the folder, whatever is in it
                raise DataError(
                    f"{hub_id} is both a local folder and the id of a hub dataset.",
                    "To use the folder, set dataset.path to it.",
                )
            return datasets.load_dataset(hub_id)
        files: dict[str, list[str]] = {}
        # Longest first: `validation` is not `valid` of something.
        names = sorted((*TRAIN_SPLITS, *TEST_SPLITS), key=len, reverse=True)
        for path in parquet:
            known = next((split for split in names if split in path.stem.lower()), "train")
            _check_claims(path)
            files.setdefault(known, []).append(str(path))
        return datasets.load_dataset("parquet", data_files=files, batch_size=ROWS)
    except DataError:
        raise
    except Exception as error:  # the library raises its own, the hub's, httpx's and pyarrow's errors
        if parquet is not None:
            raise DataError(f"The Parquet files of {name} cannot be read: {error}.", "Download them again.") from error
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        extra = f" {facts.offline}" if facts.offline else ""
        raise DataError(
            f"{name} could not be downloaded from the Hugging Face hub ({hub_id}): {reason.rstrip('.')}.",
            "Check the network, or download its Parquet files elsewhere and set dataset.path to their folder."
            f"{extra} The embedded dataset `digits` needs no network.",
        ) from error


def _check_claims(path: Path) -> None:
    """Refuse a Parquet file that claims to unpack to far too much, before unpacking it."""
    import pyarrow.parquet

    open_regular(path).close()
    facts = pyarrow.parquet.read_metadata(path)
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    unpacked, packed = sum(group.total_byte_size for group in groups), path.stat().st_size
    if facts.num_rows > MOST_ROWS or facts.num_columns > MOST_COLUMNS or unpacked > MOST_UNPACKED * packed:
        raise DataError(
            f"{path} claims {facts.num_rows:,} rows of {facts.num_columns} columns, {format_bytes(unpacked)} in "
            f"a file of {format_bytes(packed)}: that is not an image dataset.",
            "Remove it.",
        )


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

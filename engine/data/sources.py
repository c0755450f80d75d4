"""Where datasets come from, behind one door: `find_source`. A source lists labels and gives one image at a time."""

import difflib
import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.data.dataset import Classes
from engine.errors import CorruptFileError, DataError, UsageError
from engine.storage.untrusted import open_regular

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple(map(str, range(10)))

HUB_IDS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
    "imagenet": "benjamin-paine/imagenet-1k-64x64",
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
}
KNOWN = ("digits", "fashion-mnist", "mnist", "cifar10", "cifar100", "tiny-imagenet", "imagenet", "folder")

IDX_FOLDERS = {
    # Debian's package dataset-fashion-mnist; its files are found before the hub is asked.
    "fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),),
    "mnist": (),
}
IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


MOST_IDX = 2**30
"""Bytes of an idx file's contents; Fashion-MNIST has 47 million, all of EMNIST 638."""


@dataclass(frozen=True)
class SourceSplit:
    """One split: class numbers and a way to one image."""

    labels: Classes
    image: Callable[[int], Any]
    """`image(i)` -> uint8 array `(H, W)` / `(H, W, 3)`, or a PIL image; DataError if it cannot be decoded."""


@dataclass(frozen=True)
class OpenSource:
    """A source that has been looked into."""

    classes: tuple[str, ...]
    channels: int
    resolution: int | None
    """The images' own side; None where they differ or are not square."""
    train: SourceSplit
    test: SourceSplit | None
    """None: a held-out part of `train` is to be made."""
    left_out: tuple[str, ...] = ()
    """Bad files that were skipped."""


@dataclass(frozen=True)
class Source:
    """A dataset that has been located, not yet read."""

    name: str
    description: str
    key: str
    """Identifies the contents as well as can be known without reading them."""
    open: Callable[[], OpenSource]


def find_source(name: str, path: Path | None, on_bad_file: str = "error") -> Source:
    """Locate a dataset.

    Args:
        name: a known name, `folder`, or a hub id `owner/name`.
        path: local files instead of a download.
        on_bad_file: `error` or `skip`, for folders.

    Raises:
        UsageError: an unknown name.
        DataError: the path is missing or of the wrong kind.
    """
    if path is not None and not path.exists():
        raise DataError(
            f"dataset.path = {path} does not exist.", "Check the spelling; it is relative to the workspace's folder."
        )
    if name == "folder":
        from engine.data.folder import folder_source

        if path is None:
            raise UsageError("dataset.name = folder needs dataset.path, the class-per-folder tree.")
        return folder_source(path, on_bad_file)
    if name == "digits":
        return Source(name, "digits (UCI, 8x8), embedded", "digits-1", _open_digits)
    if name in IDX_FOLDERS:
        for folder in (path,) if path is not None else IDX_FOLDERS[name]:
            found = _idx_files(folder) if folder is not None and folder.is_dir() else None
            if found:
                return _idx_source(name, found)
    if name in HUB_IDS or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        from engine.data.hub import hub_source

        return hub_source(name, HUB_IDS.get(name, name), path)
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"There is no dataset {name!r}.",
        f"{hint}Known: {', '.join(KNOWN[:-1])}; or a folder with one subfolder per class, or a hub id owner/name.",
    )


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `2` before `10`; different texts never tie (`1`, `01`), so an order is the same everywhere."""
    # isdecimal, not isdigit: int() refuses digits such as a superscript two.
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
    return [*parts, (-1, 0, text)]


def file_key(paths: Sequence[Path]) -> str:
    """Digest over names, sizes and times of files: changes when one of them does."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An idx file of bytes, gzipped or not, as an array.

    Raises:
        DataError: not an idx file, or shorter than its header says.
    """
    try:
        with open_regular(path) as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            # Unpacked as far as the header says and no further: a megabyte of zeros unpacks from a kilobyte.
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                zeros, kind, axes = struct.unpack(">HBB", file.read(4))
                if zeros != 0 or kind != 8:
                    raise ValueError("not an idx file of bytes")
                if axes > 4:
                    raise ValueError(f"it has {axes} axes")
                shape = struct.unpack(f">{axes}I", file.read(4 * axes))
                size = math.prod(shape)
                if size > MOST_IDX:
                    raise ValueError(f"its header claims {size:,} bytes")
                data = bytearray()
                while piece := file.read(min(2**24, size + 1 - len(data))):
                    data += piece
                if len(data) != size:
                    there = "more" if len(data) > size else f"{len(data):,}"
                    raise ValueError(f"its header says {size:,} bytes; there are {there}")
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error, CorruptFileError) as error:
        raise DataError(
            f"{path} cannot be read as an idx file ({error}).", "Replace it, or reinstall its package."
        ) from error


def _split(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> SourceSplit:
    return SourceSplit(labels.astype(np.int64), lambda i: images[i])


def _open_digits() -> OpenSource:
    assets = files("engine.data").joinpath("assets")
    raw = read_idx(Path(str(assets.joinpath("digits-images-idx3-ubyte.gz"))))
    labels = read_idx(Path(str(assets.joinpath("digits-labels-idx1-ubyte.gz"))))
    images = np.round(raw.astype(np.float64) * (255 / 16)).astype(np.uint8)
    return OpenSource(DIGIT_CLASSES, 1, 8, _split(images, labels), None)


def _idx_files(folder: Path) -> dict[str, tuple[Path, Path]] | None:
    found = {}
    for split, stems in IDX_STEMS.items():
        pair = []
        for stem in stems:
            names = (f"{stem}.gz", stem, f"{stem.replace('-idx', '.idx')}.gz", stem.replace("-idx", ".idx"))
            path = next((folder / name for name in names if (folder / name).exists()), None)
            if path is None:
                return None
            pair.append(path)
        found[split] = (pair[0], pair[1])
    return found


def _idx_source(name: str, paths: dict[str, tuple[Path, Path]]) -> Source:
    everything = [path for pair in paths.values() for path in pair]

    def opened() -> OpenSource:
        arrays = {split: (read_idx(images), read_idx(labels)) for split, (images, labels) in paths.items()}
        for split, (images, labels) in arrays.items():
            if images.ndim != 3 or images.shape[1] != images.shape[2] or len(images) != len(labels):
                raise DataError(f"The {split} files in {everything[0].parent} do not belong together.", "Replace them.")
        side = int(arrays["train"][0].shape[1])
        classes = FASHION_CLASSES if name == "fashion-mnist" else DIGIT_CLASSES
        return OpenSource(classes, 1, side, _split(*arrays["train"]), _split(*arrays["test"]))

    return Source(name, f"{name}, idx files in {everything[0].parent}", file_key(everything), opened)

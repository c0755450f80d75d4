"""MNIST and Fashion-MNIST as idx files, and reading such files. The hub is used only if they are not found."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.data.report import Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, SourceSplit, file_key
from engine.errors import CorruptFileError, DataError, UsageError
from engine.storage.reading import exists, is_folder
from engine.storage.untrusted import open_regular

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple(map(str, range(10)))

IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

MOST_IDX = 2**30
"""Bytes of an idx file's contents; Fashion-MNIST has 47 million, all of EMNIST 638."""


@dataclass(frozen=True)
class IdxDataset:
    """A dataset whose files are named as MNIST's; called with a request (see `Find`)."""

    classes: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    """Where to look for its files if no path is given."""

    def __call__(self, request: DataRequest) -> Source | None:
        """The source, if the files exist."""
        for folder in (request.path,) if request.path is not None else self.folders:
            found = _idx_files(folder) if is_folder(folder) else None
            if found:
                return _idx_source(request, found, self.classes)
        return None


MNIST = IdxDataset(DIGIT_CLASSES)
FASHION_MNIST = IdxDataset(FASHION_CLASSES, (Path("/usr/share/datasets/fashion-mnist"),))
"""The folder is that of Debian's package dataset-fashion-mnist."""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An idx file of bytes, gzipped or not, as an array.

    Raises:
        DataError: not an idx file, or shorter than its header says.
    """
    try:
        with open_regular(path) as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            # Unpacked only as far as the header says: a megabyte of zeros unpacks from a kilobyte.
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


def idx_split(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> SourceSplit:
    """A split of arrays `(N, H, W)` and `(N,)`."""
    return SourceSplit(labels.astype(np.int64), lambda i: images[i])


def _idx_files(folder: Path) -> dict[str, tuple[Path, Path]] | None:
    found = {}
    for split, stems in IDX_STEMS.items():
        pair = []
        for stem in stems:
            names = (f"{stem}.gz", stem, f"{stem.replace('-idx', '.idx')}.gz", stem.replace("-idx", ".idx"))
            path = next((folder / name for name in names if exists(folder / name)), None)
            if path is None:
                return None
            pair.append(path)
        found[split] = (pair[0], pair[1])
    return found


def _idx_source(request: DataRequest, paths: dict[str, tuple[Path, Path]], classes: tuple[str, ...]) -> Source:
    everything = [path for pair in paths.values() for path in pair]
    if request.test_split not in (None, "test", "none"):
        raise UsageError(
            f"dataset.test_split = {request.test_split}: {everything[0].parent} has the splits train and test.",
            "Set dataset.test_split to test, or to none to hold out a fifth of train.",
        )

    def opened() -> OpenSource:
        arrays = {split: (read_idx(images), read_idx(labels)) for split, (images, labels) in paths.items()}
        for split, (images, labels) in arrays.items():
            if images.ndim != 3 or images.shape[1] != images.shape[2] or len(images) != len(labels):
                raise DataError(f"The {split} files in {everything[0].parent} do not belong together.", "Replace them.")
        side = int(arrays["train"][0].shape[1])
        unused = request.test_split == "none"
        test = None if unused else idx_split(*arrays["test"])
        facts = SplitFacts("train", "train", len(arrays["train"][1]), "images", f"the file {paths['train'][0].name}")
        why = f"the file {paths['test'][0].name}" + (", but dataset.test_split = none" if unused else "")
        other = SplitFacts("test", "unused" if unused else "test", len(arrays["test"][1]), "images", why)
        listing = Listing((facts, other), class_order="as numbered in the files")
        return OpenSource(classes, 1, side, idx_split(*arrays["train"]), test, listing)

    name = request.name
    key = file_key(everything)
    reads = frozenset({"test_split"})
    return Source(name, f"{name}, idx files in {everything[0].parent}", key, opened, reads=reads)

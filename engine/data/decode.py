"""Decoding: the images of a source become uint8 arrays of one size, in `.npy` files."""

import io
import math
import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.data.dataset import Classes, Pixels
from engine.data.pictures import BAD_FILE, to_square
from engine.data.report import BAD_REASON
from engine.data.resolve import ResolvedData
from engine.data.sources import SourceSplit
from engine.errors import DataError, DiskError
from engine.events import Event, Notice, Progress
from engine.storage.atomic import disk
from engine.storage.filesystem import FULL, Write, format_bytes

STAGE = "data"
CHUNK = 512
"""Images held in memory at once."""


def decode(data: ResolvedData, folder: Path) -> Generator[Event, None, list[str]]:
    """Write the images and labels of both splits to a folder. Use as `left_out = yield from ...`.

    Args:
        data: what to decode.
        folder: gets `<split>_images.npy`, uint8 `(N, C, side, side)`, and `<split>_labels.npy`, int64 `(N,)`.

    Returns:
        A message for each image or file that was left out.

    Raises:
        DataError: an image cannot be decoded, a class has no images, or there is no room.
    """
    listed = data.report.listing.left_out
    left_out = [example for kind in listed if kind.reason == BAD_REASON for example in kind.examples]
    skip = data.request.on_bad_file == "skip"
    parts = {"train": (data.train.split, data.train.index), "test": (data.test.split, data.test.index)}
    total = sum(len(index) for _, index in parts.values())
    done = 0
    for split, (part, index) in parts.items():
        bad = left_out if skip else None
        done = yield from _decode_split(part, index, data.channels, data.resolution, folder, split, done, total, bad)
    if left_out:
        shown = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        yield Notice(level="warning", message=f"{len(left_out)} bad files were skipped: {shown}")
    for split in parts:
        _check_classes(np.load(folder / f"{split}_labels.npy"), data.classes, split, data.request.name)
    return left_out


def _decode_split(
    part: SourceSplit,
    index: Classes,
    channels: int,
    side: int,
    folder: Path,
    split: str,
    done: int,
    total: int,
    left_out: list[str] | None,
) -> Generator[Event, None, int]:
    """Write a split's arrays. What cannot be decoded is added to `left_out`; where that is None it raises."""
    path = folder / f"{split}_images.npy"
    shape = (channels, side, side)
    good: list[int] = []
    shown = 0.0

    def square(i: int) -> Pixels | DataError:
        try:
            return to_square(part.image(i), channels, side)
        except DataError as error:
            return error
        except (ValueError, OSError) as error:  # decoded, but of a mode or size that cannot be made square
            return DataError(f"Image {i} of the {split} split cannot be used ({error}).", BAD_FILE)

    # Pillow releases the interpreter while it decodes, so threads are enough; a chunk bounds what is in memory.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool, _new_array(path, (len(index), *shape)) as write:
        for start in range(0, len(index), CHUNK):
            chunk = index[start : start + CHUNK]
            squares: list[Pixels] = []
            for i, found in zip(chunk, pool.map(square, chunk), strict=True):
                done += 1
                if time.monotonic() - shown > 0.1 or done == total:
                    shown = time.monotonic()
                    yield Progress(stage=STAGE, done=done, total=total, unit="images", detail=f"decoding {split}")
                if isinstance(found, DataError):
                    if left_out is None:
                        raise found
                    left_out.append(found.message)
                    continue
                squares.append(found)
                good.append(int(i))
            write(np.array(squares, dtype=np.uint8).tobytes())
    if len(good) < len(index):  # an .npy file cannot be truncated: copy the good images
        longer = path.with_suffix(".all")
        disk.rename(path, longer)
        offset = len(_header((len(index), *shape)))
        whole = np.memmap(longer, dtype=np.uint8, mode="r", offset=offset, shape=(len(good), *shape))
        with _new_array(path, (len(good), *shape)) as write:
            for start in range(0, len(good), CHUNK):
                write(whole[start : start + CHUNK].tobytes())
        del whole
        disk.remove(longer)
    labels = io.BytesIO()
    np.save(labels, part.labels[good].astype(np.int64), allow_pickle=False)
    disk.write(folder / f"{split}_labels.npy", labels.getvalue())
    return done


def _header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


@contextmanager
def _new_array(path: Path, shape: tuple[int, ...]) -> Iterator[Write]:
    """A function that writes the bytes of an .npy file of uint8, front to back; space for all is reserved first."""
    header = _header(shape)
    size = len(header) + math.prod(shape)
    try:
        with disk.writing(path, size, reserve=True) as write:
            write(header)
            yield write
    except DiskError as error:
        if error.errno not in FULL:
            raise
        raise DataError(
            f"Not enough disk space for the decoded images: {path.parent.parent} needs {format_bytes(size)}.",
            "Free some space, set TESLA_CACHE to a folder on a larger disk, or lower dataset.resolution.",
        ) from error


def _check_classes(labels: Classes, classes: tuple[str, ...], split: str, name: str) -> None:
    present = np.bincount(labels, minlength=len(classes))
    if len(present) > len(classes):
        raise DataError(f"{name}: the {split} split has class numbers beyond its {len(classes)} classes.")
    empty = [classes[k] for k in np.flatnonzero(present == 0)]
    if empty:
        raise DataError(
            f"{name}: the class {empty[0]!r} has no {split} images"
            + (f" (and {len(empty) - 1} more)." if empty[1:] else "."),
            "Every class needs at least one.",
        )

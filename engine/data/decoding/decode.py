"""Decoding: the images of a source become uint8 arrays of one size, in `.npy` files; what was stopped is resumed."""

import hashlib
import io
import json
import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL

from engine.data.dataset import Classes
from engine.data.decoding.decode_worker import Item
from engine.data.decoding.decoders import Decoders, cores
from engine.data.decoding.outcome import report_after, warn_after
from engine.data.decoding.pictures import BAD_FILE, Target
from engine.data.decoding.unfinished import MOST_MESSAGES, Record, SplitRecord, read_record, sha256_part, write_record
from engine.data.report import BAD_REASON, DataReport
from engine.data.resolve import Part, ResolvedData
from engine.errors import DataError, DiskError
from engine.events import Event, Notice, Progress, with_progress
from engine.runtime.threads import SingleWorker, run_in_thread
from engine.storage.atomic import disk
from engine.storage.filesystem import FULL, Write, format_bytes
from engine.storage.reading import exists, told_reads

STAGE = "data"
BATCH = 256
"""Images decoded together, at most."""
BATCH_BYTES = 2**22
"""Bytes of picture files, or of decoded images, from which on a batch is full: they bound what is in memory."""
MANY = 4096
"""Picture files from which on processes decode them. Starting one takes as long as some hundred small pictures."""
SAVE_EVERY = 5.0
"""Seconds of decoding that a kill may cost."""
HEADER = 128
"""Bytes before the data of an `.npy` file: NumPy leaves room for any shape."""
RATE_OVER = 10.0
"""Seconds whose pace is shown."""


@dataclass(frozen=True)
class Outcome:
    """What was decoded."""

    channels: int
    left_out: tuple[str, ...]
    """A message for each image or file that was left out; the first thousand."""
    report: DataReport
    """As it turned out."""


class _ColourError(Exception):
    """A picture is in colour where those that were looked at are grey."""


def decode(data: ResolvedData, key: str, folder: Path) -> Generator[Event, None, Outcome]:
    """Write the images and labels of both splits to a folder. Use as `outcome = yield from ...`.

    Args:
        data: what to decode.
        key: identifies the source, see `Source.key`.
        folder: gets `<split>_images.npy`, uint8 `(N, C, side, side)`, and `<split>_labels.npy`, int64 `(N,)`. What a
            stopped process decoded into it is kept if it is whole.

    Raises:
        DataError: an image cannot be decoded, a class has no images, or there is no room.
        WorkerLostError: a decoding process ended.
    """
    record = read_record(folder, _plan(data, key), data.channels)
    record = yield from _verified(record, data, folder)
    if record.done:
        yield Notice(level="info", message=f"Resuming: {record.done:,} images are decoded already.")
    try:
        yield from _decode_splits(data, record, folder)
    except _ColourError as found:
        words = f"{found} is in colour, but the images that were looked at are grey: decoding all of them in RGB."
        yield Notice(level="warning", message=words)
        record = Record(record.format, record.plan, 3)
        yield from _decode_splits(data, record, folder)
    for split in ("train", "test"):
        with told_reads(folder / f"{split}_labels.npy"):
            labels = np.load(folder / f"{split}_labels.npy")
        _check_classes(labels, data.classes, split, data.request.name)
    yield from warn_after(data, record)
    bad = (kind for kind in data.report.listing.left_out if kind.reason == BAD_REASON)
    listed = [example for kind in bad for example in kind.examples]
    return Outcome(record.channels, tuple(listed + record.messages), report_after(data, record))


def _plan(data: ResolvedData, key: str) -> str:
    """Digest of everything that decides the bytes, but for the number of channels."""
    asked = {name: value for name, value in data.request.changed().items() if name != "path"}
    facts = [key, asked, data.resolution, data.value_range, list(data.classes), PIL.__version__, np.__version__]
    digest = hashlib.sha256(json.dumps(facts, default=str).encode())
    for part in (data.train, data.test):
        for numbers in (part.index, part.split.labels):
            digest.update(np.ascontiguousarray(numbers, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _verified(record: Record, data: ResolvedData, folder: Path) -> Generator[Event, None, Record]:
    """The record, if the arrays are as it says; else a new one."""
    at = Progress(stage=STAGE, done=0, total=1, unit="datasets")
    for split, known in record.splits.items():
        if known.done:
            size = (known.done - len(known.bad)) * math.prod(_shape(record, data))
            check = partial(sha256_part, folder / f"{split}_images.npy", HEADER, size)
            found = yield from with_progress(run_in_thread(check), at, "checking what is decoded already")
            if found is None or found.hexdigest() != known.sha256:
                return Record(record.format, record.plan, data.channels)
    return record


def _shape(record: Record, data: ResolvedData) -> tuple[int, int, int]:
    return (record.channels, data.resolution, data.resolution)


def _decode_splits(data: ResolvedData, record: Record, folder: Path) -> Generator[Event, None, None]:
    parts = {"train": data.train, "test": data.test}
    target = Target(record.channels, data.resolution, data.request.fit, data.value_range)
    splits = {split: _Split(part, split, folder / f"{split}_images.npy", record, data) for split, part in parts.items()}
    total = sum(len(part.index) for part in parts.values())
    files = total - record.done if all(part.split.file is not None for part in parts.values()) else 0
    with (
        Decoders(target, cores() if files >= MANY and cores() > 1 else 0) as decoders,
        SingleWorker("tesla-save") as saver,
    ):
        pace = _Pace(total)
        for split, work in splits.items():
            yield pace.at(record.done, f"decoding {split}")
            for saved in work.decode(decoders):
                if saved is not None and time.monotonic() - pace.saved > SAVE_EVERY:
                    pace.saved = time.monotonic()
                    record.splits[split].sha256 = saved.hexdigest()
                    saver.submit(partial(write_record, folder, record.to_bytes()))
                if pace.due() or record.done == total:
                    yield pace.at(record.done, f"decoding {split}")
    for work in splits.values():
        work.finish()


class _Pace:
    """How fast it goes, and when to tell."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._told = 0.0
        self._marks: deque[tuple[float, int]] = deque()
        self.saved = time.monotonic()
        """When the record was last written."""

    def due(self) -> bool:
        return time.monotonic() - self._told > 0.1

    def at(self, done: int, what: str) -> Progress:
        self._told = now = time.monotonic()
        self._marks.append((now, done))
        while now - self._marks[0][0] > RATE_OVER:
            self._marks.popleft()
        seconds, images = now - self._marks[0][0], done - self._marks[0][1]
        pace = f", {images / seconds:,.0f} images/s" if seconds > 1 and images else ""
        return Progress(stage=STAGE, done=done, total=self._total, unit="images", detail=f"{what}{pace}")


@dataclass(frozen=True)
class _Split:
    """A split, its file, and how far it is."""

    part: Part
    name: str
    path: Path
    record: Record
    data: ResolvedData

    def decode(self, decoders: Decoders) -> "Iterator[hashlib._Hash | None]":
        """Write the split's arrays; after each batch its images' digest, and None while none is ready.

        Raises:
            DataError: an image cannot be decoded, and may not be left out.
        """
        record = self.record.splits[self.name]
        shape = _shape(self.record, self.data)
        whole = (len(self.part.index), *shape)
        if record.done < len(self.part.index) or not exists(self.path):
            start = record.done - len(record.bad)
            with _images_file(self.path, whole, start) as (write, digest):
                for found in decoders.decode(self._batches(record.done)):
                    if found is None:
                        yield None
                        continue
                    if found.colour:
                        raise _ColourError(found.colour)
                    for bad in found.bad:
                        self._leave_out(record, bad.position, bad.message, bad.hint)
                    record.done += len(found.pixels) + len(found.bad)
                    record.resized += found.resized
                    record.not_square += found.not_square
                    write(found.pixels.data.cast("B") if found.pixels.size else b"")
                    yield digest
                record.sha256 = digest.hexdigest()

    def finish(self) -> None:
        """Make the file as long as there are good images, and write their labels."""
        good = np.delete(self.part.index, self.record.splits[self.name].bad)
        if len(good) < len(self.part.index):
            shape = (len(good), *_shape(self.record, self.data))
            with disk.writing(self.path, start=0) as write:
                write(_header(shape))
            disk.truncate(self.path, HEADER + math.prod(shape))
        labels = io.BytesIO()
        np.save(labels, self.part.split.labels[good].astype(np.int64), allow_pickle=False)
        disk.write(self.path.with_name(f"{self.name}_labels.npy"), labels.getvalue())

    def _leave_out(self, record: SplitRecord, position: int, message: str, hint: str) -> None:
        if self.data.request.on_bad_file != "skip":
            raise DataError(message, hint)
        record.bad.append(record.done + position)
        if len(self.record.messages) < MOST_MESSAGES:
            self.record.messages.append(message)

    def _batches(self, start: int) -> Iterator[Sequence[Item]]:
        """The images from a place on; read in one thread, in ascending order."""
        split, index = self.part.split, self.part.index
        most = max(1, min(BATCH, BATCH_BYTES // math.prod(_shape(self.record, self.data))))
        batch: list[Item] = []
        size = 0
        for i in map(int, index[start:]):
            name = split.name(i) if split.name is not None else f"Image {i} of the {self.name} split"
            if split.file is None:
                batch.append((name, partial(split.image, i)))
            else:
                try:
                    data: bytes | DataError = split.file(i)
                except DataError as error:
                    data = error
                except (OSError, ValueError) as error:
                    data = DataError(f"{name} cannot be read ({error}).", BAD_FILE)
                batch.append((name, data))
                size += len(data) if isinstance(data, bytes) else 0
            if len(batch) >= most or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _header(shape: tuple[int, ...]) -> bytes:
    """The start of an `.npy` file, `HEADER` bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


@contextmanager
def _images_file(path: Path, shape: tuple[int, ...], images: int) -> "Iterator[tuple[Write, hashlib._Hash]]":
    """A function that writes on an .npy file of uint8 after so many images, and the digest of all its images.

    Space for the whole is reserved first.
    """
    size = HEADER + math.prod(shape)
    there = images * math.prod(shape[1:])
    digest = sha256_part(path, HEADER, there) if images else hashlib.sha256()
    assert digest is not None, "it was checked"
    try:
        with disk.writing(path, size, reserve=True, start=HEADER + there if images else None) as write:

            def written(data: "bytes | memoryview") -> None:
                digest.update(data)
                write(data)

            if not images:
                write(_header(shape))
            yield written, digest
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

"""Decode once: every dataset becomes uint8 arrays in a cache that all workspaces share.

<cache>/datasets/<name>-<resolution>-<digest>/
    train_images.npy  train_labels.npy  test_images.npy  test_labels.npy    (N, C, H, W) uint8 and (N,) int64
    manifest.json                                                           counts, classes, sha256 of each file
<cache>/datasets/<name>-<resolution>-<digest>.tmp-*                         being decoded, or to be continued
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs

from engine.data.dataset import Dataset
from engine.data.decoding.decode import STAGE, decode
from engine.data.decoding.unfinished import sweep_unfinished, unfinished_folder
from engine.data.registry import find_source
from engine.data.report import DataReport
from engine.data.request import DataRequest
from engine.data.resolve import ResolvedData, resolving
from engine.data.sources import Source
from engine.errors import CorruptFileError, DataError, NewerFormatError, UnreadableFileError, system_reason
from engine.events import Event, Notice, Progress, with_progress
from engine.runtime.threads import run_in_thread
from engine.storage.atomic import FORMAT, disk, read_json, sha256_file, sweep, write_json
from engine.storage.lock import KernelLock
from engine.storage.reading import exists, status_of, told_reads
from engine.storage.temp_files import leftovers
from engine.storage.untrusted import open_regular, typed, whole_number
from engine.storage.versions import check_format

Result = TypeVar("Result")

MOST_HASHED = 2**30
"""Files larger than this (bytes) are hashed by `verify_cache` only, not at every opening."""
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class _Manifest:
    """What an entry's manifest says about its dataset."""

    name: str
    source: str
    classes: list[str]
    channels: int
    resolution: int
    fingerprint: str
    report: dict[str, Any] | None = None


def cache_root(cache: Path | None = None) -> Path:
    """The shared cache: the argument, else $TESLA_CACHE, else the user's cache folder."""
    if cache is not None:
        return cache
    return Path(os.environ.get("TESLA_CACHE") or platformdirs.user_cache_path("tesla"))


def prepare_dataset(request: DataRequest, *, cache: Path | None = None) -> Generator[Event, None, Dataset]:
    """Open a dataset, decoding it first if the cache does not have it. Use as `dataset = yield from ...`.

    Args:
        request: what to open, and how to read it.
        cache: the cache folder, see `cache_root`.

    Raises:
        UsageError, DataError: see `find_source`; also a bad file, or no room.
    """
    # Long work runs beside the caller, who may want to stop.
    source = yield from _beside(lambda: find_source(request), "looking at the files")
    folder = _entry(source, request, cache)
    problems = yield from _problems(folder)
    if problems is None or problems:
        yield from _made_under_lock(source, folder, request)
    elif leftovers(folder):  # of the input spaces fitted to it
        with suppress(OSError):  # a shared cache that only its owner may tidy
            sweep(folder)
    return open_cache(folder)


def _beside(work: Callable[[], Result], what: str) -> Generator[Event, None, Result]:
    return (
        yield from with_progress(run_in_thread(work), Progress(stage=STAGE, done=0, total=1, unit="datasets"), what)
    )


def _problems(folder: Path) -> Generator[Event, None, list[str] | None]:
    """What is wrong with an entry; None if there is no entry."""
    if status_of(folder) is None:
        return None
    return (yield from _beside(lambda: verify_cache(folder, hash_up_to=MOST_HASHED), "checking the cached dataset"))


def _made_under_lock(source: Source, folder: Path, request: DataRequest) -> Generator[Event, None, None]:
    """Decode a dataset that is missing or damaged, unless another process just has.

    An entry that is whole is opened without the lock: reading a shared cache must not need permission to write.

    Raises:
        DataError: the cache cannot be written.
    """
    try:
        disk.make_folder(folder.parent)
        lock = KernelLock(folder.with_name(f"{folder.name}.lock"))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise DataError(
            f"The cache {folder.parent} cannot be written ({system_reason(error)}), and it has no complete "
            f"{folder.name}.",
            "Ask its owner to open the dataset once, or set TESLA_CACHE to your own folder.",
        ) from error
    with lock:
        waiting = Progress(stage=STAGE, done=0, total=1, unit="datasets", detail="another process is decoding it")
        while (locked := lock.try_acquire()) is False:
            yield waiting
            time.sleep(0.2)
        problems = yield from _problems(folder)
        if problems:
            yield Notice(
                level="warning", message=f"The cached dataset is damaged and is being decoded again: {problems[0]}"
            )
            disk.remove_tree(folder)
        if status_of(folder) is None:
            with suppress(OSError):  # what others left is no reason to fail
                sweep_unfinished(folder.parent)
            data = yield from resolving(source, request)
            try:
                yield from _build(source, data, folder, locked=bool(locked))
            except OSError as error:
                # Without locks two processes may decode the same: the first result is as good.
                taken = isinstance(error, FileExistsError) or error.errno == errno.ENOTEMPTY
                if not taken or not exists(folder / "manifest.json"):
                    raise
        sweep(folder)  # of the input spaces fitted to it


def _build(source: Source, data: ResolvedData, folder: Path, *, locked: bool) -> Generator[Event, None, None]:
    with unfinished_folder(folder, locked=locked) as temp:
        outcome = yield from decode(data, source.key, temp)
        facts: dict[str, dict[str, Any]] = {}
        for array in ARRAYS:
            file = temp / f"{array}.npy"
            digest = yield from _beside(partial(sha256_file, file), "hashing")
            facts[file.name] = {"sha256": digest, "bytes": file.stat().st_size}
        fingerprint = hashlib.sha256("".join(str(fact["sha256"]) for fact in facts.values()).encode()).hexdigest()
        write_json(
            temp / "manifest.json",
            {
                "format": FORMAT, "name": source.name, "source": source.description, "classes": list(data.classes),
                "channels": outcome.channels, "resolution": data.resolution, "left_out": list(outcome.left_out),
                "report": outcome.report.to_json(),
                "fingerprint": fingerprint, "files": facts,
            },
        )  # fmt: skip


def cached_dataset(request: DataRequest, *, cache: Path | None = None) -> Dataset | None:
    """The dataset if the cache has it, not verified; nothing is downloaded or written. See `prepare_dataset`."""
    folder = _entry(find_source(request), request, cache)
    return open_cache(folder) if exists(folder / "manifest.json") else None


def _entry(source: Source, request: DataRequest, cache: Path | None) -> Path:
    # What is read otherwise is another entry; one with bad files skipped must not be used as a complete one.
    asked = request.identity()
    other = f"\0{json.dumps(asked, sort_keys=True)}" if asked else ""
    key = hashlib.sha256(f"{FORMAT}\0{request.name}\0{source.key}\0{request.resolution}{other}".encode()).hexdigest()
    label = request.name.replace("/", "--")
    return cache_root(cache) / "datasets" / f"{label}-{request.resolution or 'native'}-{key[:12]}"


def open_cache(folder: Path) -> Dataset:
    """The dataset in a cache entry, memory-mapped; its checksums are not verified, see `verify_cache`.

    Raises:
        CorruptFileError: its manifest or an array is damaged.
        NewerFormatError: a newer version made it.
        UnreadableFileError: the system refuses to read it now.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        check_format(manifest.get("format"), FORMAT, folder / "manifest.json")
        facts = typed(_Manifest, manifest)
        arrays: dict[str, Any] = {}
        for name in ARRAYS:
            path = folder / f"{name}.npy"
            open_regular(path).close()
            with told_reads(path):
                # Mapped, labels too: a header that claims more than the file holds is refused before anything is
                # allocated.
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        image = (facts.channels, facts.resolution, facts.resolution)
        for split in ("train", "test"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            if images.dtype != np.uint8 or images.shape != (len(labels), *image):
                raise ValueError(f"the {split} images do not match the manifest")
            if labels.dtype != np.int64 or labels.ndim != 1:
                raise ValueError(f"the {split} labels do not match the manifest")
            arrays[f"{split}_labels"] = np.array(labels)
        report = None
        with suppress(ValueError):  # another version's: the arrays are as good
            report = None if facts.report is None else DataReport.from_json(facts.report)
    except (NewerFormatError, UnreadableFileError):
        raise
    except Exception as error:  # NumPy raises any exception on a damaged header
        raise CorruptFileError(
            f"{folder} is damaged: {error}.", "Delete that folder; the next run decodes the dataset again."
        ) from error
    return Dataset(
        name=facts.name, source=facts.source, classes=tuple(facts.classes), channels=facts.channels,
        resolution=facts.resolution, fingerprint=facts.fingerprint, folder=folder,
        report=report, **arrays,
    )  # fmt: skip


def cached_report(folder: Path) -> DataReport | None:
    """The report in a cache entry; None in one of an earlier version."""
    try:
        return DataReport.from_json(read_json(folder / "manifest.json").get("report"))
    except (OSError, CorruptFileError, ValueError):
        return None


def verify_cache(folder: Path, hash_up_to: int | None = None) -> list[str]:
    """Problems of a cache entry, as messages; empty if it is whole.

    Args:
        folder: the entry.
        hash_up_to: larger files (bytes) are checked by size only; None hashes all.

    Raises:
        NewerFormatError: a newer version made it.
        UnreadableFileError: the system refuses to read a file now.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        check_format(manifest["format"], FORMAT, folder / "manifest.json")
        expected = {f"{name}.npy": manifest["files"][f"{name}.npy"] for name in ARRAYS}
        if not all(whole_number(facts["bytes"]) and isinstance(facts["sha256"], str) for facts in expected.values()):
            raise TypeError("bytes and sha256")
        typed(_Manifest, manifest)
    except (OSError, CorruptFileError, KeyError, TypeError, ValueError):
        return [f"{folder / 'manifest.json'} is missing or damaged"]
    problems = []
    for name, facts in expected.items():
        path = folder / name
        if (status := status_of(path)) is None:
            problems.append(f"{path} is missing")
        elif status.st_size != facts["bytes"]:
            problems.append(f"{path} has {status.st_size} bytes instead of {facts['bytes']}")
        elif (hash_up_to is None or facts["bytes"] <= hash_up_to) and sha256_file(path) != facts["sha256"]:
            problems.append(f"{path} does not match its checksum")
    return problems

"""Packages, devices, disk, cached datasets."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from engine.data import cache_root, verify_cache
from engine.data.decoding.unfinished import RECORD
from engine.errors import BusyError, CorruptFileError, NewerFormatError
from engine.runtime.cuda import driver_version
from engine.storage.atomic import read_tensors
from engine.storage.filesystem import disk, format_bytes
from engine.storage.lock import KernelLock
from engine.storage.reading import exists, is_folder
from engine.storage.temp_files import ASIDE, TEMP_MARK, leftovers
from engine.tools.doctor.finding import Finding, damaged, examined, left, left_by, lock_folder
from engine.tools.doctor.platform import examine_platform
from engine.tools.doctor.plugins import examine_plugins

PACKAGES = ("torch", "kornia", "numpy", "pillow", "safetensors", "pydantic", "datasets", "rich", "typer", "textual")
LOW_DISK = 1_000_000_000


def examine_machine() -> list[Finding]:
    """Everything outside a workspace."""
    findings: list[Finding] = []
    for name in PACKAGES:
        try:
            findings.append(Finding(True, name, version(name)))
        except PackageNotFoundError:
            findings.append(Finding(False, name, "not installed"))
    findings.append(Finding(True, "CPU threads", str(torch.get_num_threads())))
    if torch.cuda.is_available():
        driver = driver_version() or "unknown"
        words = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, driver {driver}"
        findings.append(Finding(True, "CUDA", words))
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
            name = f"{torch.cuda.get_device_name(number)} (compute capability {capability})"
            words = f"{name}, {format_bytes(free)} of {format_bytes(total)} free"
            findings.append(Finding(True, f"cuda:{number}", words))
    else:
        findings.append(Finding(True, "CUDA", "none; runs on the CPU"))
    findings += examine_platform()
    root = cache_root()
    room = disk.free(root) or 0
    findings.append(Finding(room > LOW_DISK, "cache", f"{root}, {format_bytes(room)} free"))
    return findings + examine_plugins() + _examine_cache(root / "datasets")


def _examine_cache(folder: Path) -> list[Finding]:
    if not is_folder(folder):
        return []
    findings = []
    for entry in sorted(folder.iterdir()):
        if TEMP_MARK in entry.name or entry.name == ASIDE:
            continue
        what = f"cached {entry.name}"
        if entry.suffix == ".lock":
            findings += examined(partial(lock_folder, what, entry))
            continue
        found = examined(partial(_entry, entry, what), partial(_entry_lock, entry))
        if all(finding.good for finding in found):
            found += _spaces(entry, what)
        findings += found
    for path in leftovers(folder):
        if exists(path / RECORD):
            findings.append(Finding(True, f"cached {path.name}", "decoding was stopped; the next use resumes it"))
            continue
        words = "left by a killed process; nothing uses it"
        findings += examined(partial(left_by, f"cached {path.name}", path, words))
    return findings


def _entry(entry: Path, what: str) -> Iterator[Finding]:
    try:
        problems = verify_cache(entry)
    except NewerFormatError as error:
        yield Finding(False, what, str(error))
        return
    if problems:
        yield damaged(what, f"{'; '.join(problems)}.", entry, then="It is decoded again when needed.")
    else:
        yield Finding(True, what, "whole")


@contextmanager
def _entry_lock(entry: Path) -> Iterator[None]:
    with KernelLock(entry.with_name(f"{entry.name}.lock")) as lock:
        if lock.try_acquire() is False:
            raise BusyError("Another process is using it; nothing was changed.", "Repair it later.")
        yield


def _spaces(entry: Path, what: str) -> list[Finding]:
    """Input spaces fitted to the images of an entry: written by any process, without a lock."""
    findings = []
    for path in leftovers(entry):
        words = f"{path} was left by a killed process; nothing uses it"
        findings += examined(partial(left_by, what, path, words))
    for path in sorted(entry.glob("space-*.safetensors")):
        findings += examined(partial(_space, path, what))
    return findings


def _space(path: Path, what: str) -> Iterator[Finding]:
    try:
        read_tensors(path)
    except NewerFormatError as error:
        yield Finding(False, what, str(error))
    except CorruptFileError as error:
        record = path.with_suffix(".json")
        if not exists(record):
            yield left(what, path, words=f"{path} was left unfinished by a killed process")
        else:
            yield damaged(what, error.message, record, path, then="It is fitted again.")

"""Packages, devices, disk, cached datasets."""

from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from engine.data import cache_root, verify_cache
from engine.errors import CorruptFileError, NewerFormatError
from engine.storage.atomic import read_tensors
from engine.storage.filesystem import disk, format_bytes
from engine.storage.lock import KernelLock
from engine.storage.temp_files import ASIDE, TEMP_MARK, leftovers, set_aside
from engine.tools.doctor.finding import Finding, damaged, left
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
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            words = f"{torch.cuda.get_device_name(number)}, {format_bytes(free)} of {format_bytes(total)} free"
            findings.append(Finding(True, f"cuda:{number}", words))
    else:
        findings.append(Finding(True, "CUDA", "none; runs on the CPU"))
    root = cache_root()
    room = disk.free(root) or 0
    findings.append(Finding(room > LOW_DISK, "cache", f"{root}, {format_bytes(room)} free"))
    return findings + examine_plugins() + _examine_cache(root / "datasets")


def _examine_cache(folder: Path) -> list[Finding]:
    if not folder.is_dir():
        return []
    findings = []
    again = "It is decoded again when needed."
    for entry in sorted(folder.iterdir()):
        if TEMP_MARK in entry.name or entry.name == ASIDE:
            continue
        if entry.suffix == ".lock":
            if entry.is_dir():
                findings.append(
                    damaged(f"cached {entry.name}", f"{entry} is a folder; a lock file belongs there.", entry)
                )
            continue
        what = f"cached {entry.name}"
        try:
            problems = verify_cache(entry)
        except NewerFormatError as error:
            findings.append(Finding(False, what, str(error)))
            continue
        if problems:
            findings.append(Finding(False, what, f"{'; '.join(problems)}. {again}", partial(_aside, entry)))
        else:
            findings.append(Finding(True, what, "whole"))
            findings += _spaces(entry, what)
    for path in leftovers(folder):
        findings.append(left(f"cached {path.name}", path, words="left by a killed process; nothing uses it"))
    return findings


def _spaces(entry: Path, what: str) -> list[Finding]:
    """Input spaces fitted to the images of an entry."""
    findings = [
        left(what, path, words=f"{path} was left by a killed process; nothing uses it") for path in leftovers(entry)
    ]
    for path in sorted(entry.glob("space-*.safetensors")):
        try:
            read_tensors(path)
        except NewerFormatError as error:
            findings.append(Finding(False, what, str(error)))
        except CorruptFileError as error:
            record = path.with_suffix(".json")
            if not record.exists():
                findings.append(left(what, path, words=f"{path} was left unfinished by a killed process"))
            else:
                findings.append(damaged(what, error.message, record, path, then="It is fitted again."))
    return findings


def _aside(entry: Path) -> str:
    with KernelLock(entry.with_name(f"{entry.name}.lock")) as lock:
        if lock.try_acquire() is False:
            return "Another process is using it; nothing was changed."
        return f"Moved to {set_aside(entry)}."

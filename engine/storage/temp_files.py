"""Names of temporary files, and which of them dead processes left; damaged files are set aside, never deleted.

A name says who writes: `0000500.safetensors.tmp-<machine>-<process>-<random>`. A leftover is one whose
writer has exited: a dead process of this machine, or one of another machine and a day old.
"""

import functools
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.storage.filesystem import disk
from engine.storage.processes import this_machine

TEMP_MARK = ".tmp-"
OURS = re.compile(r"\.tmp-([0-9a-f]{6})-(\d+)-[0-9a-f]{6}")
OLD = 86_400.0
"""Seconds after which a temporary file of another machine, or of an earlier version, counts as left."""
ASIDE = "damaged"
"""Folder beside a damaged file, to which it is moved."""

_mine: set[str] = set()
"""Names this process is writing: in a container every process may have the same number as the one before it."""


@functools.cache
def _machine() -> str:
    return hashlib.sha256(this_machine().encode()).hexdigest()[:6]


def temp_name(name: str) -> str:
    """A temporary name for the file `name`."""
    return f"{name}{TEMP_MARK}{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def is_temp_name(name: str) -> bool:
    """Whether this version gave the name to a file or folder that is being written."""
    return OURS.search(name) is not None


def begin_temp(target: Path) -> Path:
    """A temporary path beside `target`; release it with `end_temp`."""
    temp = target.with_name(temp_name(target.name))
    _mine.add(temp.name)
    return temp


def end_temp(temp: Path) -> None:
    """The temporary path is no longer written to."""
    _mine.discard(temp.name)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder for files of this process alone, removed at the end. Those that killed ones left are removed first.

    Args:
        parent: may be one that all users write to, such as the system's folder for temporary files.
        name: what its name begins with.
    """
    with suppress(OSError):
        for path in leftovers(parent):
            # In a shared folder, what is inside another user's folder can be exchanged while it is removed.
            if path.name.startswith(f"{name}{TEMP_MARK}") and path.lstat().st_uid == os.geteuid():
                disk.remove_tree(path)
    temp = begin_temp(parent / name)
    try:
        temp.mkdir(mode=0o700)
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)
        end_temp(temp)


def is_leftover(path: Path) -> bool:
    """Whether a temporary file (or folder) was left by a process that has exited."""
    found = OURS.search(path.name)
    if found and found[1] == _machine():
        number = int(found[2])
        return path.name not in _mine if number == os.getpid() else not _lives(number)
    try:
        return time.time() - path.stat().st_mtime > OLD
    except FileNotFoundError:
        return False


def leftovers(folder: Path, *, deep: bool = False) -> list[Path]:
    """What dead writers left in a folder; `deep`: and in the folders below (links are not followed)."""
    found: list[Path] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            if TEMP_MARK in path.name:
                found += [path] if is_leftover(path) else []
            elif deep and path.is_dir() and not path.is_symlink():
                found += leftovers(path, deep=True)
    return found


def sweep(folder: Path) -> None:
    """Remove what dead writers left in a folder."""
    for path in leftovers(folder):
        disk.remove_tree(path)


def sweep_target(target: Path) -> None:
    """Remove what dead writers of one file or folder left beside it, in a folder of any user."""
    with suppress(OSError):  # what others left is no reason to fail
        for path in leftovers(target.parent):
            if path.name.startswith(f"{target.name}{TEMP_MARK}"):
                disk.remove_tree(path)


def set_aside(path: Path, name: str = "") -> Path:
    """Move a damaged file (or what has its name) to the folder `damaged` beside it, as `name`; where it is now."""
    folder = path.parent / ASIDE
    disk.make_folder(folder)
    name = name or path.name
    target = folder / name
    number = 1
    while target.exists() or target.is_symlink():
        number += 1
        target = folder / f"{name}.{number}"
    disk.rename(path, target)
    disk.fsync(folder)
    disk.fsync(path.parent)
    return target


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True

"""Reading files: what the system refuses is not damage.

Too many open files, a network share that is away, no permission, a failing device: the same file may be whole, and is
read by the same command later. Such a refusal is an `UnreadableFileError`, wherever it happens and whatever the file
is. It is neither an OSError nor a CorruptFileError, so that no code that handles a missing or a damaged file handles it
too: it ends the command, and nothing is set aside, computed again or deleted because of it. This module alone decides
which errors of the system are refusals.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import UnreadableFileError, system_reason
from engine.storage.filesystem import disk

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that say what is there, or that nothing is: no file of that name. They stay what they are."""
SPECIAL = (errno.ENXIO, errno.ENODEV)
"""Errors of opening a socket, or a device without a driver."""
DENIED = (errno.EACCES, errno.EPERM)
BUFFER = 2**16
"""Bytes read ahead."""


@contextmanager
def told_reads(path: Path) -> Iterator[None]:
    """Give a refusal of the system the name of the file, and a type of its own.

    Errors without a number come from libraries that found wrong bytes, and pass; so do those of `ABSENT`.

    Raises:
        UnreadableFileError: the system refused to open or read it.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in ABSENT:
            raise
        raise unreadable(error, path) from error


def unreadable(error: OSError, path: Path) -> UnreadableFileError:
    """The error for a refused read.

    Args:
        error: the system's.
        path: what was to be read.
    """
    again = "then run the same command again: it resumes."
    if error.errno in DENIED:
        message = f"{path} cannot be read: permission denied ({system_reason(error)})."
        hint = f"Change its mode with chmod, or run as its owner; {again}"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        message = f"{path} cannot be read now ({system_reason(error)})."
        hint = f"Raise the limit of open files (ulimit -n), or close other programs; {again}"
    else:
        message = f"{path} cannot be read now ({system_reason(error)})."
        hint = f"Check its disk or the connection to it; {again}"
    return UnreadableFileError(message, f"{hint} Nothing was changed.", error.errno, path)


def open_to_read(path: Path) -> io.BufferedReader:
    """Open a file for reading, of any kind; opening a pipe does not wait for a writer.

    Raises:
        UnreadableFileError: the system refuses, now or at a later read.
        OSError: there is no such file.
    """
    with told_reads(path):
        return io.BufferedReader(_Descriptor(path, disk.system.open_to_read(path)), BUFFER)


def names_in(folder: Path) -> list[str]:
    """Names in a folder, sorted; none if it does not exist. (`Path.glob` takes a refusal for an empty folder.)

    Raises:
        UnreadableFileError: the system refuses.
    """
    try:
        with told_reads(folder):
            return sorted(disk.system.names(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def paths_in(folder: Path, *suffixes: str) -> list[Path]:
    """What is in a folder, sorted by name, with one of these endings if any are given; see `names_in`."""
    return [folder / name for name in names_in(folder) if not suffixes or name.endswith(suffixes)]


def status_of(path: Path) -> os.stat_result | None:
    """What the system knows of a file, links followed; None if there is none. (`Path.exists` of newer Pythons, from
    3.14 on, takes a refusal for absence.)

    Raises:
        UnreadableFileError: the system refuses.
    """
    try:
        with told_reads(path):
            return disk.system.status(path)
    except (OSError, ValueError):  # ValueError: a null character in the name
        return None


def exists(path: Path) -> bool:
    """Whether there is anything of that name; see `status_of`."""
    return status_of(path) is not None


def is_file(path: Path) -> bool:
    """Whether there is a regular file; see `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; see `status_of`."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def is_special(path: Path) -> bool:
    """Whether there is a device, a pipe or a socket; see `status_of`."""
    status = status_of(path)
    return status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def close_quietly(descriptor: int) -> None:
    """Close what was only read, or locked: if the system complains now, nothing is lost."""
    with suppress(OSError):
        os.close(descriptor)


class _Descriptor(io.RawIOBase):
    """A descriptor whose every read goes through `disk.system`, and tells what is refused."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        with told_reads(self._path):
            return disk.system.read_into(self._descriptor, buffer)

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def close(self) -> None:
        if not self.closed:
            super().close()
            close_quietly(self._descriptor)

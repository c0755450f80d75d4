"""The only access to the file system for everything the program writes permanently; reading.py is for reading.

`System` is the operating system's calls, one by one; a test replaces `disk.system` to kill the process, fill the disk
or cut the power at any of them. `Disk` is what the engine calls: it finishes short writes, and turns what the system
refuses into errors with the place, the amount and what to do.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import DiskError, system_reason

# Never through a link that has the name: its target must not be written.
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
AT_END = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
INSIDE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk and a used-up quota."""
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)

NO_FULL_SYNC = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)
"""Errors of a file system that knows only plain syncs, such as a network share."""

Write = Callable[["bytes | memoryview"], None]


class System:
    """The system's calls behind a durable write, and behind a read."""

    def open_to_read(self, path: Path) -> int:
        """Open for reading; a pipe does not wait for its writer."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def read_into(self, descriptor: int, buffer: memoryview) -> int:
        """One `read(2)`; how many bytes it gave, 0 at the end."""
        return os.readv(descriptor, [buffer])

    def names(self, folder: Path) -> list[str]:
        """Names in a folder."""
        return [entry.name for entry in folder.iterdir()]

    def status(self, path: Path) -> os.stat_result:
        """What is there, links followed."""
        return path.stat()

    def open(self, path: Path, flags: int) -> int:
        """Open for writing; the user's umask sets the mode of a new file."""
        return os.open(path, flags | os.O_CLOEXEC, 0o666)

    def write(self, descriptor: int, data: "bytes | memoryview") -> int:
        """One `write(2)`; how many bytes it took, perhaps not all."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def reserve(self, descriptor: int, size: int) -> None:
        """Make room for `size` bytes."""
        os.posix_fallocate(descriptor, 0, size)

    def fsync(self, descriptor: int) -> None:
        """Force a file or folder to the device."""
        if not hasattr(fcntl, "F_FULLFSYNC"):
            os.fsync(descriptor)
            return
        try:  # on macOS, fsync leaves the data in the drive's own cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in NO_FULL_SYNC:
                raise
            os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically, replacing an existing one."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make a folder in one that exists."""
        path.mkdir()

    def free(self, place: Path) -> int:
        """Bytes a user may still write to the disk of a place that exists."""
        return shutil.disk_usage(place).free

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


class Disk:
    """Durable writes. Every method raises DiskError where the system refuses."""

    def __init__(self) -> None:
        self.system = System()

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file."""
        self.write_parts(path, (data,), len(data))

    def write_parts(self, path: Path, parts: "Iterable[bytes | memoryview]", size: int | None = None) -> None:
        """Write a new file, part after part; `size`: of the whole, bytes, for the error on a full disk."""
        with self.writing(path, size) as write:
            for part in parts:
                write(part)

    @contextmanager
    def writing(
        self, path: Path, size: int | None = None, *, reserve: bool = False, start: int | None = None
    ) -> Iterator[Write]:
        """A new file, or the rest of one, given as a function that writes on.

        Args:
            path: the file.
            size: bytes it will have, if that is known.
            reserve: make room for them first, so that a disk too small is noticed at once.
            start: byte of an existing file to write from; None for a new file.
        """
        with _told(path, size):
            descriptor = self.system.open(path, NEW if start is None else INSIDE)
        try:
            os.lseek(descriptor, start or 0, os.SEEK_SET)
            if reserve and size:
                self._reserve(path, descriptor, size)

            def write(data: "bytes | memoryview") -> None:
                with _told(path, size or len(data)):
                    self._write_all(descriptor, data)

            yield write
        finally:
            os.close(descriptor)

    def append(self, path: Path, data: bytes) -> None:
        """One `write(2)` to the end of the file, so that lines of two writers never mix; all of it or nothing."""
        with _told(path, len(data)):
            descriptor = self.system.open(path, AT_END)
            try:
                before = os.fstat(descriptor).st_size
                try:
                    self._write_all(descriptor, data)
                except OSError:
                    with suppress(OSError):  # what fitted on a full disk would tear the next line
                        self.system.truncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes."""
        with _told(path):
            descriptor = self.system.open(path, INSIDE)
            try:
                self.system.truncate(descriptor, size)
            finally:
                os.close(descriptor)

    def fsync(self, path: Path) -> None:
        """Force a file or folder to the device."""
        with _told(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.system.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically, replacing an existing one."""
        with _told(target):
            self.system.rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file if it exists."""
        with _told(path), suppress(FileNotFoundError):
            self.system.remove(path)

    def make_folder(self, path: Path) -> None:
        """Create a folder and its missing parents; each new name is forced to the device."""
        if path.is_dir():
            return
        if path.parent != path:
            self.make_folder(path.parent)
        with _told(path):
            with suppress(FileExistsError):
                self.system.make_folder(path)
            if not path.is_dir():
                raise FileExistsError(errno.EEXIST, "There is a file of that name", str(path))
        self.fsync(path.parent)

    def remove_tree(self, path: Path) -> None:
        """Remove a file, or a folder with all that is in it; symbolic links are removed, not followed."""
        if path.is_dir() and not path.is_symlink():
            with _told(path):
                inner = sorted(path.iterdir())
            for entry in inner:
                self.remove_tree(entry)
            with _told(path), suppress(FileNotFoundError):
                self.system.remove_folder(path)
        else:
            self.remove(path)

    def free(self, place: Path) -> int | None:
        """Bytes a user may still write at a place, existing or not; None where the system does not say."""
        for folder in (place, *place.absolute().parents):
            with suppress(OSError):
                return self.system.free(folder)
        return None

    def _write_all(self, descriptor: int, data: "bytes | memoryview") -> None:
        left = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while len(left):
            left = left[self.system.write(descriptor, left) :]

    def _reserve(self, path: Path, descriptor: int, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):  # macOS
            return
        with _told(path, size):
            try:
                self.system.reserve(descriptor, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that cannot reserve
                    raise


disk = Disk()


@contextmanager
def _told(path: Path, size: int | None = None) -> Iterator[None]:
    try:
        yield
    except (DiskError, FileNotFoundError):
        raise
    except OSError as error:
        raise disk_error(error, path, size) from error


def disk_error(error: OSError, path: Path, size: int | None = None) -> DiskError:
    """An error that says what the system refused.

    Args:
        error: its error.
        path: what was to be written.
        size: bytes that were to be written, if known.
    """
    reason = system_reason(error)
    again = "then run the same command again: it resumes from what was saved, which is intact."
    needed = f" It takes {format_bytes(size)}" if size else ""
    if error.errno == errno.EFBIG:  # of a process, or of a file system; the disk may be empty
        message = f"{path} may not become so large ({reason}).{needed}{'.' if needed else ''}"
        hint = f"Raise the limit on the size of files (ulimit -f), or use another disk, {again}"
    elif error.errno in FULL:
        free = disk.free(path.parent)
        room = "" if free is None else f"; {format_bytes(free)} are free there" if needed else ""
        message = f"Not enough disk space for {path} ({reason}).{needed}{room}{'.' if needed else ''}"
        hint = f"Free some space on the disk of {path.parent} (or raise the quota), {again}"
    elif error.errno in FORBIDDEN:
        message = f"{path} is not writable ({reason})."
        hint = f"Check the owner and mode of {path.parent}, and that its disk is not mounted read-only; {again}"
    elif error.errno == errno.EIO:
        message = f"The disk reports an error at {path} ({reason})."
        hint = f"Check the disk or the connection to it (dmesg), {again}"
    else:
        message = f"{path} cannot be written ({reason})."
        hint = f"Fix that, {again}"
    return DiskError(message, hint, error.errno)


def other_spelling(path: Path) -> str:
    """The name that an existing file or folder really has; empty if it is that of `path`.

    File systems of macOS ignore the case of names, and some how accents are encoded.
    """
    with suppress(OSError):
        names = {entry.name for entry in path.parent.iterdir()}
        if path.name not in names and path.exists():
            return next((name for name in names if path.samefile(path.with_name(name))), "")
    return ""


def format_bytes(count: float) -> str:
    """A number of bytes with a decimal unit: 312 bytes, 4.1 MB, 120 GB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}" if count < 100 else f"{count:.0f} {unit}"
    return f"{count / 1000:,.1f} TB"

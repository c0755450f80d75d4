"""Locks that one process at a time may hold: a run to drive, a teacher to train.

There are two proofs. The kernel's lock on a file decides between processes that share a kernel, and is released when
its holder dies. It does not work everywhere: some shared file systems keep locks to one host, some have none. So the
holder also leaves a record, `{pid, host, since, ...}`, and touches that file every second while it lives. A record of
this machine is believed as far as the kernel confirms it (the lock, or a process with that number that was started at
that moment: numbers are used again), and a record of another machine until its heartbeat stops: see
`engine.storage.beats`.

A holder that was taken for dead, because its machine slept, finds another record when it wakes, and must stop:
`check`.
"""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import LostHoldError
from engine.storage import beats
from engine.storage.atomic import disk, write_bytes
from engine.storage.holder import UNKNOWN, Holder, load_holder, read_holder, this_process
from engine.storage.reading import close_quietly, told_reads
from engine.storage.temp_files import begin_temp, end_temp, set_aside

SETTLE = 0.2
"""Seconds after which a process that took a record without a lock checks that it still has it."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""Errors of a file system without locks."""

TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}

PATIENCE = 2.0
"""Seconds to wait for a lock: a process that only checks whether it is free holds it for a moment."""


class KernelLock:
    """The kernel's lock on a file, released when the process dies. A context manager that releases it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    def try_acquire(self) -> bool | None:
        """Whether this process has it now; None where the file system has no locks."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                return False
            if error.errno in NO_LOCKS:
                return None
            raise
        return True

    @property
    def place(self) -> Path | None:
        """Where the file is now, None if it is deleted or unknown."""
        with suppress(OSError):
            found = self._name()
            return found if os.path.samestat(found.stat(), os.fstat(self._descriptor)) else None
        return None

    def _name(self) -> Path:
        if hasattr(fcntl, "F_GETPATH"):  # macOS
            return Path(os.fsdecode(fcntl.fcntl(self._descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
        return Path(f"/proc/self/fd/{self._descriptor}").readlink()

    def close(self) -> None:
        """Release it."""
        if self._descriptor >= 0:
            close_quietly(self._descriptor)  # the lock goes with it
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_locked(path: Path) -> bool | None:
    """Whether a process has the kernel's lock on a file; None where the file system has no locks.

    Checks with a shared lock on a descriptor for reading: any reader may check, and disturbs no process.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFileError: the system refuses to open it.
    """
    with told_reads(path):
        descriptor = disk.system.open_to_read(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in TAKEN else None
    finally:
        close_quietly(descriptor)
    return False


class LeaseLock:
    """Repeated attempts to get a lock, then the lock itself. A context manager that releases it.

    Args:
        lock: the file to lock.
        record: the file that says who holds it.
        rewritten: other files that its holder rewrites every second: a change of one is a heartbeat too.
    """

    def __init__(self, lock: Path, record: Path, *rewritten: Path) -> None:
        self._lock_path = lock
        self._record = record
        self._beats = (record, *rewritten)
        self._lock: KernelLock | None = None
        self._token = ""
        self._beating = ExitStack()
        self.alive: bool | None = None
        """Whether the holder was seen to be alive; None if not yet, or if the kernel's lock decides."""
        self.watching = False
        """Whether the holder is on another machine, and is watched for a heartbeat."""

    def try_acquire(self) -> Holder | None:
        """Try once; None if it is held now, else who has it.

        Raises:
            UnreadableFileError: the record of its holder cannot be read now.
        """
        disk.make_folder(self._lock_path.parent)
        lock = KernelLock(self._lock_path)
        taken = False
        try:
            locked = lock.try_acquire()
            owner = load_holder(self._record)
            self.alive, self.watching = None, False
            if locked is False:
                return owner or UNKNOWN
            if owner is not None and owner.released is None:
                self.alive = owner.alive(*self._beats, unlocked=bool(locked))
                self.watching = not owner.mine
                if self.alive is not False:
                    return owner
            winner = self._write(owner, bool(locked))
            taken = winner is None
            if taken:
                self._lock = lock
            return winner
        finally:
            if not taken:
                lock.close()

    def attempts(self) -> Iterator[Holder]:
        """Try until it is held, or its holder is known to be alive; yields who has it after each try that failed.

        The last one yielded has it, unless `held`.
        """
        begun = time.monotonic()
        before: int | None = None
        while (owner := self.try_acquire()) is not None:
            yield owner
            waited = time.monotonic() - begun
            changes = beats.WATCHER.changes(self._record)
            # A change that the first look finds may be old: it happened after some earlier look, perhaps long ago.
            before = changes if before is None else before
            seen = self.alive and (changes < 0 or changes > before)
            if seen or waited > (2 * beats.LATE if self.watching else PATIENCE):
                return
            time.sleep(0.05)

    @property
    def held(self) -> bool:
        """Whether this process holds it, as far as it knows: see `check`."""
        return self._lock is not None

    def check(self) -> None:
        """Check before a write that no other process has taken it over.

        Raises:
            LostHoldError: one has, or the folder was deleted; `place` is where it is.
        """
        owner = read_holder(self._record)
        if owner is None:
            place = self._lock.place if self._lock is not None else None
            raise LostHoldError(None, place.parent if place is not None else None)
        if owner != UNKNOWN and owner.token != self._token:
            raise LostHoldError(owner.words, None)

    @property
    def stands(self) -> bool:
        """Whether the record is this process's now: false too while it cannot be read."""
        owner = read_holder(self._record)
        return self.held and owner is not None and owner.token == self._token

    def release(self) -> None:
        """Release it."""
        self._beating.close()
        owner = read_holder(self._record)
        if owner is not None and self._token and owner.token == self._token:
            with suppress(OSError):  # a full or missing disk: the record looks like that of a killed process
                write_bytes(self._record, replace(owner, released=time.time()).encoded())
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write(self, before: Holder | None, locked: bool) -> Holder | None:
        """Write this process's record; None on success, else the holder. Without a lock only one of many succeeds."""
        self._token = uuid.uuid4().hex
        temp = begin_temp(self._record)
        try:
            disk.write(temp, this_process(self._token).encoded())
            disk.fsync(temp)
            if locked:
                if before == UNKNOWN and self._record.exists():
                    set_aside(self._record)
                disk.rename(temp, self._record)
            elif not self._linked(temp, before):
                return read_holder(self._record) or UNKNOWN
        finally:
            disk.remove(temp)
            end_temp(temp)
        if not locked:
            time.sleep(SETTLE)
            standing = read_holder(self._record)
            if standing is None or standing.token != self._token:
                return standing or UNKNOWN
        # Through a descriptor: another's record of the same name is not touched.
        descriptor = os.open(self._record, os.O_RDONLY | os.O_CLOEXEC)
        self._beating.callback(close_quietly, descriptor)
        self._beating.enter_context(beats.beating(partial(os.utime, descriptor)))
        return None

    def _linked(self, temp: Path, before: Holder | None) -> bool:
        """Publish the new record if its name is free; a dead holder's record is removed first."""
        if before is not None:
            old = begin_temp(self._record)
            with suppress(FileNotFoundError):
                disk.rename(self._record, old)
                found = read_holder(old)
                if (found.token if found else "") != before.token:  # another process was faster: this is its record
                    with suppress(FileExistsError):
                        os.link(old, self._record)
                if found == UNKNOWN == before:
                    set_aside(old, self._record.name)
                else:
                    disk.remove(old)
            end_temp(old)
        try:
            os.link(temp, self._record)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            try:
                with open(self._record, "xb") as file:
                    file.write(temp.read_bytes())
            except FileExistsError:
                return False
        return True

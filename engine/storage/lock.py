"""Who holds a thing that one process at a time may hold: a run to drive, a teacher to train.

Two proofs. The kernel's lock on a file decides between processes that share a kernel, and falls with its holder. It
does not reach everywhere: some shared file systems keep locks to one host, some have none. So the holder also leaves a
record of itself, `{pid, host, since, ...}`, and touches that file every second for as long as it lives. Whoever wants
the thing believes a record of this machine as far as the kernel bears it out (the lock, or a process with that number
that was started at that moment: numbers come again), and a record of another machine until its file stood still for
`LATE` seconds. Two hosts' clocks are never compared: what counts is whether the file changes.

A holder that was given up for dead, a machine that slept, finds another's record when it wakes, and must stop: `check`.
"""

import errno
import fcntl
import getpass
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from engine.errors import LostHoldError, TeslaError
from engine.storage.atomic import FORMAT, disk, read_json, sealed_json, write_bytes
from engine.storage.temp_files import begin_temp, end_temp
from engine.storage.untrusted import moment, typed

EVERY = 1.0
"""Seconds between two touches of the record."""

LATE = 15.0
"""Seconds without a touch after which a holder on another machine counts as dead."""

SETTLE = 0.2
"""Seconds after which whoever took a record without a lock looks whether it is still its own."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What a file system answers that has no locks."""

TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}

SAME_START = 1.5
"""Seconds by which two looks at the start of one process may differ."""


@dataclass(frozen=True)
class Holder:
    """Who holds something, or was the last to."""

    pid: int
    host: str
    since: float
    """Seconds since 1970, by its own clock."""
    user: str = ""
    machine: str = ""
    """Kernel and space of process numbers in which `pid` means something; empty in records of 0.1.0."""
    started: float = 0.0
    """When the process was started, seconds since 1970: the same number may come again."""
    token: str = ""
    """Drawn for this hold."""
    released: float | None = None
    """When it let go; None while it holds, and for ever if it was killed."""
    format: int = FORMAT

    @property
    def here(self) -> bool:
        """Whether it is (or was) a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def runs(self) -> bool:
        """Whether that very process of this machine still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < SAME_START
        except psutil.Error:
            return False

    @property
    def words(self) -> str:
        """`process 12 on box of ada since 2026-01-31 12:00:00`."""
        if self.pid == 0:
            return "a process that left no record"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        of = f" of {self.user}" if self.user else ""
        return f"process {self.pid} on {self.host}{of} since {since}"


@cache
def this_machine() -> str:
    """This boot of this kernel, and this space of process numbers (containers have their own)."""
    found = []
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(found) or f"{socket.gethostname()} {psutil.boot_time():.0f}"


def read_holder(record: Path) -> Holder | None:
    """The record; None if there is none or it cannot be read."""
    try:
        found = typed(Holder, read_json(record))
    except (OSError, TeslaError, ValueError):
        return None
    # Process ids below 2 are everybody's, and a signal goes to this one.
    return found if 1 < found.pid < 2**31 and moment(found.since) else None


class KernelLock:
    """The kernel's lock on a file, which falls with the process. A context manager that lets go."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    def try_acquire(self) -> bool | None:
        """Whether it is ours now; None where the file system has no locks."""
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
        """Where the file is by now, None if it is gone or that cannot be known."""
        with suppress(OSError):
            found = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            return None if found.name.endswith(" (deleted)") else found
        return None

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)  # the lock goes with it
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LeaseLock:
    """One attempt after another to hold a thing, then the hold itself.

    Args:
        lock: the file to lock.
        record: the file that says who holds it.
    """

    def __init__(self, lock: Path, record: Path) -> None:
        self._lock_path = lock
        self._record = record
        self._lock: KernelLock | None = None
        self._token = ""
        self._touched = -1
        self._stop = threading.Event()
        self._seen: tuple[tuple[int, int], float] | None = None
        self.alive = False
        """Whether the holder on another machine was seen to live."""
        self.watching = False
        """Whether that is still to be seen."""

    def try_acquire(self) -> Holder | None:
        """Take it; None if that worked, else who has it. To be asked again: see `alive`."""
        disk.make_folder(self._lock_path.parent)
        lock = KernelLock(self._lock_path)
        taken = False
        try:
            locked = lock.try_acquire()
            owner = read_holder(self._record)
            self.watching = False
            if locked is False:
                return owner or UNKNOWN
            if owner is None and not locked and self._record.exists():
                owner = UNKNOWN  # damaged, or being written by somebody
            if owner is not None and owner.released is None and not self._dead(owner, bool(locked)):
                return owner
            winner = self._write(owner, bool(locked))
            taken = winner is None
            if taken:
                self._lock = lock
            return winner
        finally:
            if not taken:
                lock.close()

    def check(self) -> None:
        """Before something is written: that nobody else holds it by now.

        Raises:
            LostHoldError: somebody does, or the folder is gone; `place` is where it is.
        """
        try:
            owner = read_holder(self._record)
            if owner is None:
                self._record.stat()
                return  # cannot be read just now
        except FileNotFoundError:
            place = self._lock.place if self._lock is not None else None
            raise LostHoldError(None, place.parent if place is not None else None) from None
        except OSError:
            return
        if owner.token != self._token:
            raise LostHoldError(owner.words, None)

    def release(self) -> None:
        """Let go."""
        self._stop.set()
        owner = read_holder(self._record)
        if owner is not None and owner.token == self._token:
            with suppress(OSError):  # a full or vanished disk: the record looks like that of a killed process
                write_bytes(self._record, _encoded(replace(owner, released=time.time())))
        if self._touched >= 0:
            os.close(self._touched)
            self._touched = -1
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _dead(self, owner: Holder, locked: bool) -> bool:
        """Whether a holder that did not let go is no more."""
        mine = owner.machine == this_machine() if owner.machine else owner.here
        if mine and locked:
            return True  # one kernel: it would have the lock
        if mine and owner.machine:
            return not owner.runs
        self.watching = True
        stamp = _stamp(self._record)
        now = time.monotonic()
        if stamp is None or self._seen is None:
            self._seen = None if stamp is None else (stamp, now)
            return False
        if stamp != self._seen[0]:
            self._seen = (stamp, now)
            self.alive = True
            return False
        return now - self._seen[1] > LATE

    def _write(self, before: Holder | None, locked: bool) -> Holder | None:
        """Put down our record; None if it stands, else whose does. Without a lock only one of many gets through."""
        self._token = uuid.uuid4().hex
        process = psutil.Process()
        mine = Holder(
            process.pid, socket.gethostname(), time.time(), _user(), this_machine(), process.create_time(), self._token
        )
        temp = begin_temp(self._record)
        disk.write(temp, _encoded(mine))
        try:
            disk.fsync(temp)
            if locked:
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
        self._touched = os.open(self._record, os.O_RDONLY | os.O_CLOEXEC)
        self._stop.clear()
        threading.Thread(
            target=self._touch_on, args=(self._stop, self._touched), name="tesla-hold", daemon=True
        ).start()
        return None

    def _linked(self, temp: Path, before: Holder | None) -> bool:
        """Give the new record its name if nobody has that; the old one, which was found dead, goes first."""
        if before is not None:
            old = begin_temp(self._record)
            with suppress(FileNotFoundError):
                disk.rename(self._record, old)
                found = read_holder(old)
                if (found.token if found else "") != before.token:  # another was quicker: this is its record
                    with suppress(FileExistsError):
                        os.link(old, self._record)
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

    @staticmethod
    def _touch_on(stop: threading.Event, descriptor: int) -> None:
        # Through the descriptor: another's record of the same name is not touched.
        while not stop.wait(EVERY):
            with suppress(OSError):
                os.utime(descriptor)


UNKNOWN = Holder(0, "an unknown host", 0.0)
"""Who has the lock without a record."""


def _encoded(owner: Holder) -> bytes:
    return sealed_json(asdict(owner))


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when the file is touched. Opened, not only looked at: a network's cache is asked anew then."""
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            return facts.st_ino, facts.st_mtime_ns
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name
        return str(os.getuid())

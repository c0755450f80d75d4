"""Who holds a lock: the record that its holder leaves, and whether that process is alive."""

import getpass
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

from engine.errors import TeslaError
from engine.storage.atomic import FORMAT, read_json, sealed_json
from engine.storage.beats import WATCHER, file_stamp, process_alive
from engine.storage.untrusted import moment, typed


@dataclass(frozen=True)
class Holder:
    """Who holds something, or held it last."""

    pid: int
    host: str
    since: float
    """Seconds since 1970, by its own clock."""
    user: str = ""
    machine: str = ""
    """Kernel and process namespace in which `pid` is valid; empty in records of 0.1.0."""
    started: float = 0.0
    """When the process was started, seconds since 1970: process ids are reused."""
    token: str = ""
    """Drawn for this hold."""
    released: float | None = None
    """When it released the lock; None while it holds it, and after it was killed."""
    format: int = FORMAT

    @property
    def here(self) -> bool:
        """Whether it is (or was) a process on this machine."""
        return self.host == socket.gethostname()

    @property
    def mine(self) -> bool:
        """Whether its process id and its kernel's locks are valid here."""
        return self.machine == this_machine() if self.machine else self.here

    def alive(self, *beats: Path, unlocked: bool) -> bool | None:
        """Whether it still holds; None while that is not known of a process on another machine.

        Args:
            beats: the files that it changes every second, the record first.
            unlocked: the kernel says that the lock is free.
        """
        if self.mine and unlocked:
            return False  # one kernel: it would have the lock
        if self.mine and self.machine:
            return process_alive(self.pid, self.started)
        return WATCHER.look(beats[0], [file_stamp(beat) for beat in beats])

    def encoded(self) -> bytes:
        """The record's bytes."""
        return sealed_json(asdict(self))

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
    """This boot of this kernel, and this process namespace (containers have their own)."""
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
    # Process ids below 2 are special, and this one gets signals.
    return found if 1 < found.pid < 2**31 and moment(found.since) else None


UNKNOWN = Holder(0, "an unknown host", 0.0)
"""Who has the lock without a record."""


def this_process(token: str) -> Holder:
    """What this process puts in its record."""
    mine = psutil.Process()
    machine, started = this_machine(), mine.create_time()
    return Holder(mine.pid, socket.gethostname(), time.time(), _user(), machine, started, token)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name
        return str(os.getuid())

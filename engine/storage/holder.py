"""Who holds a lock: the record that its holder leaves, and whether that process is alive."""

import getpass
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from engine.errors import TeslaError, UnreadableFileError
from engine.storage.atomic import FORMAT, read_json, sealed_json
from engine.storage.beats import WATCHER, file_stamp
from engine.storage.processes import process_alive, start_ticks, this_machine
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
    ticks: int | None = None
    """When the process was started, in clock ticks since boot; None where that is not known, or not recorded."""

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
            return process_alive(self.pid, self.started, self.ticks)
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


def read_holder(record: Path) -> Holder | None:
    """The record; None if there is none, `UNKNOWN` if it cannot be read just now, or is damaged."""
    try:
        return load_holder(record)
    except UnreadableFileError:
        return UNKNOWN


def load_holder(record: Path) -> Holder | None:
    """The record; None if there is none, `UNKNOWN` if it is damaged.

    Raises:
        UnreadableFileError: the system refuses to read it now.
    """
    try:
        found = typed(Holder, read_json(record))
    except UnreadableFileError:
        raise
    except FileNotFoundError:
        return None
    except (OSError, TeslaError, ValueError):
        return UNKNOWN
    # Process ids below 2 are special, and this one gets signals.
    return found if 1 < found.pid < 2**31 and moment(found.since) else UNKNOWN


UNKNOWN = Holder(0, "an unknown host", 0.0)
"""Who has the lock without a record that can be read. It counts as alive until its heartbeat stops."""


def this_process(token: str) -> Holder:
    """What this process puts in its record."""
    mine = psutil.Process()
    machine, started, ticks = this_machine(), mine.create_time(), start_ticks(mine.pid)
    return Holder(mine.pid, socket.gethostname(), time.time(), _user(), machine, started, token, ticks=ticks)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name
        return str(os.getuid())

"""The pulse of a run: a small file its driver rewrites every second, so that watchers on any host can tell a run that
moves from one that stands still and from one whose driver is gone.

It is a hint and never a source of truth: it is renamed into place whole but not synced, and nothing is lost with it.
A thread of its own writes it, so that it goes on through a long compilation or a single long step.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import CorruptFileError
from engine.events import Event, Progress, RunPaused, RunResumed
from engine.runtime.out_of_memory import available_bytes, process_bytes
from engine.storage.atomic import disk, replace_bytes
from engine.storage.filesystem import format_bytes
from engine.storage.untrusted import parse_json, read_bounded, typed

EVERY = 1.0
"""Seconds between beats."""

LATE = 15.0
"""Seconds without a beat after which a driver no longer counts as alive."""

MOST = 2**16
"""Bytes of a pulse file; ours have three hundred."""

STILL = 120.0
"""Seconds without progress after which a living driver counts as stalled."""


SHORT = 0.15
"""Share of the memory a driver could have had, below which what was left of it counts as little."""


@dataclass(frozen=True)
class Heartbeat:
    """What a driver says of itself."""

    pid: int
    host: str
    beat: float
    """When it was written, seconds since 1970, by the driver's clock."""
    moved: float
    """When the session last made progress, same clock."""
    paused: bool = False
    stage: str = ""
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    detail: str = ""
    format: int = 1
    """Version of this file. A reader passes over what it does not know: the pulse is a hint."""
    memory: int = 0
    """Resident memory of the driver, bytes; 0 where an older version wrote it."""
    free: int = 0
    """Memory it could still have had, bytes."""

    @property
    def age(self) -> float:
        """Seconds since the last beat."""
        return max(0.0, time.time() - self.beat)

    @property
    def alive(self) -> bool:
        """Whether the driver gave a sign of life lately."""
        return self.age < LATE

    @property
    def stalled(self) -> bool:
        """Alive, not paused, and without progress for long."""
        return self.alive and not self.paused and self.beat - self.moved > STILL


class HeartbeatWriter:
    """Remembers the last progress and writes it down every second. Made by `heartbeat`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._progress = Progress(stage="", done=0.0, total=0.0, unit="")
        self._moved = time.time()
        self._paused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="tesla-pulse", daemon=True)

    def note(self, event: Event) -> None:
        """Take an event of the session as a sign of progress. Cheap: called for every one."""
        if isinstance(event, Progress):
            self._progress = event
        elif isinstance(event, RunPaused):
            self._paused = True
        elif isinstance(event, RunResumed):
            self._paused = False
        self._moved = time.time()

    def start(self) -> None:
        """Beat once now, then every second."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """The last beat was; the file goes."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            disk.remove(self._path)

    def _beat_on(self) -> None:
        while not self._stop.wait(EVERY):
            self._beat()

    def _beat(self) -> None:
        now = self._progress
        pulse = Heartbeat(
            pid=os.getpid(), host=socket.gethostname(), beat=time.time(), moved=self._moved, paused=self._paused,
            stage=now.stage, done=now.done, total=now.total, unit=now.unit, detail=now.detail,
            memory=process_bytes(), free=available_bytes(),
        )  # fmt: skip
        with suppress(OSError):  # a full disk stops the run elsewhere, with words; a missed beat must not
            replace_bytes(self._path, json.dumps(asdict(pulse)).encode())


@contextmanager
def heartbeat(path: Path) -> Iterator[HeartbeatWriter]:
    """Keep a pulse at `path` for as long as the block runs."""
    heart = HeartbeatWriter(path)
    heart.start()
    try:
        yield heart
    finally:
        heart.stop()


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The last beat; None if there is none or it cannot be read."""
    try:
        return typed(Heartbeat, parse_json(read_bounded(path, MOST)))
    except (OSError, ValueError, CorruptFileError):
        return None


def crash_description(path: Path) -> str:
    """How the last driver of a run ended, if it did so without a farewell; empty if its pulse was taken away in order.

    For a moment when nobody drives the run: then a pulse that is still there is that of a driver that was killed. What
    it had in memory tells a person whether the system may have done so for lack of it.
    """
    pulse = read_heartbeat(path)
    if pulse is None:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pulse.beat))
    where = f" in the stage {pulse.stage}" if pulse.stage else ""
    words = f"The last driver (process {pulse.pid} on {pulse.host}) vanished without a farewell{where}, after {when}"
    if pulse.memory == 0:
        return f"{words}: killed, or the machine went down."
    short = pulse.free < SHORT * (pulse.free + pulse.memory)
    cause = "memory was short: the system may have killed it" if short else "it was killed, or the machine went down"
    had, free = format_bytes(pulse.memory), format_bytes(pulse.free)
    return f"{words}; it had {had} of memory, {free} more were free: {cause}."

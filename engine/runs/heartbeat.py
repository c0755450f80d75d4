"""The heartbeat of a run: a small file its driver rewrites every second, with its progress.

It is a hint and never a source of truth: it is renamed into place whole but not synced, and nothing is lost with it.
`engine.runs.liveness` tells whether its driver is alive by whether the file changes: `beat` and `moved` are from the
driver's clock, and only their difference is meaningful elsewhere.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.errors import CorruptFileError, UnreadableFileError
from engine.events import Event, Progress, RunPaused, RunResumed
from engine.runtime.out_of_memory import available_bytes, process_bytes
from engine.storage.atomic import disk, replace_bytes
from engine.storage.beats import beating
from engine.storage.filesystem import format_bytes
from engine.storage.untrusted import parse_json, read_bounded, typed

MOST = 2**16
"""Bytes of a heartbeat file; a usual one has about three hundred."""

STILL = 120.0
"""Seconds without progress after which a living driver counts as stalled."""

SHORT = 0.15
"""Share of the memory a driver could have had, below which the rest counts as little."""


@dataclass(frozen=True)
class Heartbeat:
    """What a driver writes about itself."""

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
    """Version of this file. A reader ignores what it does not know: the file is a hint."""
    memory: int = 0
    """Resident memory of the driver, bytes; 0 where an older version wrote it."""
    free: int = 0
    """Memory it could still have had, bytes."""

    @property
    def stalled(self) -> bool:
        """Without progress for a long time, though not paused."""
        return not self.paused and self.beat - self.moved > STILL


class HeartbeatWriter:
    """Remembers the last progress, to be written every second. Created by `heartbeat`."""

    def __init__(self, path: Path, drives: Callable[[], bool]) -> None:
        self._path = path
        self._drives = drives
        self._progress = Progress(stage="", done=0.0, total=0.0, unit="")
        self._moved = time.time()
        self._paused = False

    def note(self, event: Event) -> None:
        """Count an event of the session as progress. Cheap: called for every one."""
        if isinstance(event, Progress):
            self._progress = event
        elif isinstance(event, RunPaused):
            self._paused = True
        elif isinstance(event, RunResumed):
            self._paused = False
        self._moved = time.time()

    def beat(self) -> None:
        """Write the file, unless another process drives the run by now: then it is that one's."""
        if not self._drives():
            return
        now = self._progress
        written = Heartbeat(
            pid=os.getpid(), host=socket.gethostname(), beat=time.time(), moved=self._moved, paused=self._paused,
            stage=now.stage, done=now.done, total=now.total, unit=now.unit, detail=now.detail,
            memory=process_bytes(), free=available_bytes(),
        )  # fmt: skip
        with suppress(OSError):  # a full disk stops the run elsewhere, with an error; a missed beat must not
            replace_bytes(self._path, json.dumps(asdict(written)).encode())


@contextmanager
def heartbeat(path: Path, drives: Callable[[], bool] = lambda: True) -> Iterator[HeartbeatWriter]:
    """Write a heartbeat to `path` now and every second while the block runs; then the file is removed.

    Args:
        path: the file.
        drives: whether the file is still this process's to write and to remove.
    """
    writer = HeartbeatWriter(path, drives)
    writer.beat()
    try:
        with beating(writer.beat):
            yield writer
    finally:
        with suppress(OSError):
            if drives():
                disk.remove(path)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The last beat; None if there is none or it cannot be read."""
    try:
        return typed(Heartbeat, parse_json(read_bounded(path, MOST)))
    except (OSError, ValueError, CorruptFileError, UnreadableFileError):
        return None


def crash_description(path: Path) -> str:
    """What is known of the last driver of a run if it crashed or was killed; empty if it ended normally.

    Call it while no process drives the run: then a heartbeat file that still exists is from a driver that was killed.
    Its memory shows whether the system may have killed it for lack of memory.
    """
    last = read_heartbeat(path)
    if last is None:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.beat))
    where = f" in the stage {last.stage}" if last.stage else ""
    words = f"The last driver (process {last.pid} on {last.host}) did not shut down cleanly"
    words += f"; last heartbeat{where} at {when} by its clock"
    if last.memory == 0:
        return f"{words}: it was killed, or the machine went down."
    short = last.free < SHORT * (last.free + last.memory)
    cause = "memory was low: the system may have killed it" if short else "it was killed, or the machine went down"
    return f"{words}, with {format_bytes(last.memory)} of memory used and {format_bytes(last.free)} free: {cause}."

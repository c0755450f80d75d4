"""Heartbeats: a process shows that it is alive by changing something every second; others watch for the change.

Clocks of two hosts are never compared. What counts is whether the thing (a file's inode and time, a number in a store)
changes while it is watched, timed by the monotonic clock of the process that looks.
"""

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

EVERY = 1.0
"""Seconds between two beats."""

LATE = 15.0
"""Seconds of looking without a new beat after which a process counts as dead."""

GAP = 3.0
"""Longest time between two looks that counts in full: a disk or a store that hung for longer held up the beats too."""


@dataclass
class _Seen:
    stamp: object
    looked: float
    silence: float = 0.0
    beating: bool = False
    changes: int = 0


class BeatWatcher:
    """Remembers the last beat of everything it has seen. Safe to share between threads."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, _Seen] = {}
        self._lock = threading.Lock()

    def look(self, key: Hashable, stamp: object) -> bool | None:
        """Note the stamp of a beat as it is now; whether its writer is alive.

        Returns:
            True if the stamp changed within the last `LATE` seconds of looking, False if it stood still for longer,
            None if unknown.
        """
        now = time.monotonic()
        with self._lock:
            seen = self._seen.setdefault(key, _Seen(stamp, now))
            gap = now - seen.looked
            if stamp != seen.stamp:
                self._seen[key] = _Seen(stamp, now, beating=True, changes=seen.changes + 1)
                return True
            seen.looked = now
            seen.silence += min(gap, GAP)
            seen.beating &= gap < LATE  # no process looked for so long that the last change proves nothing
            if seen.silence > LATE:
                return False
            return True if seen.beating else None

    def silence(self, key: Hashable) -> float:
        """Seconds of looking since the last change."""
        with self._lock:
            return self._seen[key].silence if key in self._seen else 0.0

    def changes(self, key: Hashable) -> int:
        """How many changes were seen; -1 if the key was never looked at."""
        with self._lock:
            return self._seen[key].changes if key in self._seen else -1


WATCHER = BeatWatcher()
"""What this process has seen of files, by path: shared, so that no caller waits for what an earlier look has shown."""


def file_stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is touched or replaced. Opens it, since that makes network file systems refresh."""
    try:
        with open(path, "rb", opener=_open_now) as file:
            facts = os.fstat(file.fileno())
            return facts.st_ino, facts.st_mtime_ns
    except OSError:
        return None


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe must not block


class _BeatThread:
    """Calls its functions every `EVERY` seconds, on one thread that runs while it has any."""

    def __init__(self) -> None:
        self._beats: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def add(self, beat: Callable[[], None]) -> None:
        with self._lock:
            self._beats.append(beat)
            if len(self._beats) == 1:
                self._stop = threading.Event()
                threading.Thread(target=self._run, args=(self._stop,), name="tesla-heartbeat", daemon=True).start()

    def remove(self, beat: Callable[[], None]) -> None:
        """Returns when no call is in progress."""
        with self._lock:
            self._beats.remove(beat)
            if not self._beats:
                self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY):
            with self._lock:
                for beat in [] if stop.is_set() else self._beats:
                    with suppress(Exception):  # one that fails must not silence the others
                        beat()


_THREAD = _BeatThread()


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every `EVERY` seconds while the block runs. A thread does, so that it survives a long single step."""
    _THREAD.add(beat)
    try:
        yield
    finally:
        _THREAD.remove(beat)

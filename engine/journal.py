"""The journal of a run: append-only JSON lines, the one interface between a run and whoever watches it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.events import SCHEMA, Event, event_from_json, event_to_json
from engine.storage import disk


@dataclass(frozen=True)
class Entry:
    """A line: when, the how-manieth, and what."""

    seq: int
    time: float
    """Wall time, seconds since 1970."""
    event: Event


class JournalWriter:
    """Appends events; one write a line, so a reader never sees two lines mixed. Only the run's driver has one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seq = last.seq + 1 if (last := last_entry(path)) else 0
        if path.exists() and (data := path.read_bytes()[-1:]) and data != b"\n":
            disk.append(path, b"\n")  # a torn line of a driver that was killed: close it, readers pass over it

    def append(self, event: Event) -> None:
        """Write one event, if it is of the kind that is kept."""
        if not event.journaled:
            return
        line = {"schema": SCHEMA, "seq": self._seq, "time": round(time.time(), 3), **event_to_json(event)}
        disk.append(self._path, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._seq += 1


def read_journal(path: Path, offset: int = 0) -> Iterator[tuple[Entry, int]]:
    """Whole lines from a byte offset on, each with the offset after it. Lines that cannot be read are passed over.

    A last line without its newline is still being written and is left for the next call.
    """
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            entry = _parse(line)
            if entry:
                yield entry, offset


def last_entry(path: Path) -> Entry | None:
    """The newest readable line."""
    if not path.exists():
        return None
    size = path.stat().st_size
    window = 64 * 1024
    while True:
        with open(path, "rb") as file:
            file.seek(max(0, size - window))
            lines = file.read().split(b"\n")
        for line in reversed(lines):
            entry = _parse(line)
            if entry:
                return entry
        if window >= size:
            return None
        window *= 8


def _parse(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
        event = event_from_json(value)
        return Entry(int(value["seq"]), float(value["time"]), event) if event else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None

"""The journal of a run: append-only JSON lines, the one interface between a run and whoever watches it."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.events import SCHEMA, Event, event_from_json, event_to_json
from engine.formats import check_format
from engine.storage import disk

TAIL = 64 * 1024
"""Bytes of a journal in which its last lines are looked for."""


@dataclass(frozen=True)
class Entry:
    """A line: when, the how-manieth, and what."""

    seq: int
    time: float
    """Wall time, seconds since 1970."""
    event: Event


class JournalWriter:
    """Appends events; one write a line, so a reader never sees two lines mixed. Only the run's driver has one.

    Raises:
        NewerFormatError: a newer version drove the run last. Readers follow it as far as they understand.
    """

    def __init__(self, path: Path) -> None:
        check_format(_last_schema(path), SCHEMA, path)
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


def read_lines(path: Path, offset: int, most: int) -> tuple[list[dict[str, Any]], int]:
    """At most `most` bytes of whole lines from a byte offset on, as JSON objects, and the offset after them.

    For whoever follows a journal of a hundred thousand lines: a batch is parsed at once. Lines that are no JSON objects
    are passed over; a torn last line is left for the next call.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(most)
            if len(data) == most and b"\n" not in data:
                data += file.readline()  # a single line longer than a batch
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    if end == 0:
        return [], offset
    lines = data[:end].split(b"\n")[:-1]
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
        if len(values) != len(lines):
            raise ValueError("a line that is not one value")
    except (ValueError, RecursionError):
        values = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                values.append(json.loads(line))
    return [value for value in values if isinstance(value, dict)], offset + end


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


def _last_schema(path: Path) -> int | None:
    """Version of the newest line that has one, among the last ones; None if there is none."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        for line in reversed(file.read().split(b"\n")):
            with suppress(ValueError, RecursionError):
                value = json.loads(line)
                if isinstance(value, dict) and isinstance(value.get("schema"), int):
                    return int(value["schema"])
    return None


def _parse(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
        event = event_from_json(value)
        return Entry(int(value["seq"]), float(value["time"]), event) if event else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None

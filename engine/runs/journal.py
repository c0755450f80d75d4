"""The journal of a run: append-only JSON lines, the only interface between a run and its readers.

A line counts if it is whole: it matches its checksum (lines of earlier versions have none), has a number and a time,
and is an event with every field of its type. Every reader skips all other lines.
"""

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError
from engine.events import (
    SCHEMA,
    DataReady,
    Event,
    RunStarted,
    event_from_json,
    event_to_json,
)
from engine.storage.atomic import disk, set_aside, write_bytes
from engine.storage.reading import is_file, status_of
from engine.storage.untrusted import moment, open_regular, parse_json, whole_number
from engine.storage.versions import check_format

CRC = b', "crc": "'
"""Before the checksum that ends a line: CRC-32 of the line without it. Lines of earlier versions have none."""

MOST_LINE = 2**22
"""Bytes of a line; the longest one written names the classes. A longer one is damaged, and is skipped in pieces."""

FIRST = 1000
"""Lines of a journal that are searched for the classes, which precede its first checkpoint."""

TAIL = 64 * 1024
"""Bytes at the end of a journal that are searched for its last lines."""


@dataclass(frozen=True)
class Entry:
    """A line: its number, when it was written, and the event."""

    seq: int
    """From 0, without gaps."""
    time: float
    """Wall time, seconds since 1970."""
    event: Event


class JournalWriter:
    """Appends events; one write a line, so a reader never sees two lines mixed. Only the run's driver has one.

    Raises:
        NewerFormatError: a newer version drove the run last. Readers follow it as far as they understand.
    """

    def __init__(self, path: Path) -> None:
        check_schema(path)
        self._path = path
        if path.is_dir():
            set_aside(path)
        if status_of(path) is None:
            disk.append(path, b"")
            disk.fsync(path.parent)
        self._seq = last.seq + 1 if (last := last_entry(path)) else 0
        if _last_byte(path) not in (b"", b"\n"):
            disk.append(path, b"\n")  # a torn line of a driver that was killed: close it, readers skip it

    def append(self, event: Event) -> None:
        """Write one event, if it is journaled."""
        if not event.journaled:
            return
        line = {"schema": SCHEMA, "seq": self._seq, "time": round(time.time(), 3), **event_to_json(event)}
        disk.append(self._path, _sealed(line))
        if event.lasting:
            disk.fsync(self._path)
        self._seq += 1


def read_journal(path: Path, offset: int = 0) -> Iterator[tuple[Entry, int]]:
    """Entries from a byte offset on, each with the offset after it. Unreadable lines are skipped.

    A last line without its newline is still being written and is left for the next call.

    Raises:
        CorruptFileError: it is not a regular file.
    """
    if not is_file(path):
        return
    with open_regular(path) as file:
        file.seek(offset)
        while line := file.readline(MOST_LINE):
            if not line.endswith(b"\n"):
                if len(line) < MOST_LINE:
                    return
                offset += len(line)
                continue
            offset += len(line)
            entry = _parse(line)
            if entry:
                yield entry, offset


def data_of(path: Path) -> DataReady | None:
    """The dataset that a run was made with; None if its journal does not say.

    Raises:
        CorruptFileError: it is not a regular file.
    """
    found = None
    for entry, _ in islice(read_journal(path), FIRST):
        if isinstance(entry.event, DataReady):
            found = entry.event
    return found


def read_lines(path: Path, offset: int, most: int) -> tuple[list[dict[str, Any]], int]:
    """At most `most` bytes of whole lines from a byte offset on, as JSON objects, and the offset after them.

    The fast path through a journal of a hundred thousand lines: a batch is parsed at once. Lines that do not
    match their checksum or are no JSON objects are skipped; `entry_from_json` makes entries of the others. A torn
    last line is left for the next call. A journal that is not a regular file has no lines.
    """
    try:
        with open_regular(path) as file:
            file.seek(offset)
            data = file.read(most)
            if len(data) == most and b"\n" not in data:
                data += file.readline(MOST_LINE)  # a single line longer than a batch
    except (FileNotFoundError, IsADirectoryError, CorruptFileError):
        return [], offset
    end = data.rfind(b"\n") + 1
    if end == 0:
        return [], offset + (len(data) if len(data) >= MOST_LINE else 0)
    lines = list(filter(_whole, data[:end].split(b"\n")[:-1]))
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


def entry_from_json(value: dict[str, Any]) -> Entry | None:
    """The entry of a parsed line; None if it is not one, or if this version does not know its event."""
    if not (whole_number(value.get("seq")) and moment(value.get("time"))):
        return None
    event = event_from_json(value)
    return Entry(value["seq"], float(value["time"]), event) if event else None


def last_entry(path: Path) -> Entry | None:
    """The newest readable line."""
    if not is_file(path):
        return None
    window = 64 * 1024
    while True:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - window))
            lines = file.read(min(window, size)).split(b"\n")
        for line in reversed(lines):
            entry = _parse(line)
            if entry:
                return entry
        if window >= min(size, 8 * MOST_LINE):
            return None  # megabytes of damage at the end: there is no number to continue from
        window *= 8


def _sealed(value: Mapping[str, Any]) -> bytes:
    """A line with its checksum. Bytes of a path that are not UTF-8 are escaped, as JSON does."""
    line = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
    return line[:-1] + CRC + f"{zlib.crc32(line):08x}".encode() + b'"}\n'


def _whole(line: bytes) -> bool:
    """Whether a line matches its checksum, or has none."""
    head, mark, tail = line.rpartition(CRC)
    return not mark or tail[:8] == f"{zlib.crc32(head + b'}'):08x}".encode()


@dataclass(frozen=True)
class Unread:
    """How many lines of a journal readers skip."""

    torn: int
    """Cut off when their driver died."""
    altered: int
    """Not torn, but changed since they were written; or missing, by the numbers of their neighbours."""


def unread_lines(path: Path) -> Unread:
    """Check every line of a journal."""
    torn = altered = 0
    bad = False
    expected: int | None = 0
    with open_regular(path) as file:
        while line := file.readline(MOST_LINE):
            entry = _parse(line)
            if entry is None:
                if CRC in line and _whole(line):  # of a newer version
                    expected = None
                    continue
                if not line.endswith(b"\n"):
                    torn += 1  # or being written
                    continue
                altered, bad = altered + bad, True
                continue
            if bad and isinstance(entry.event, RunStarted) and entry.seq == expected:
                torn, bad = torn + 1, False  # the next driver closed it
            altered += bad or (expected is not None and entry.seq > expected)
            bad = False
            expected = entry.seq + 1
    return Unread(torn, altered + bad)


def repair_journal(path: Path) -> Path:
    """Rewrite a journal that no process is writing, with its readable lines; the path where the original is kept."""
    with open_regular(path) as file:
        good = [line for line in file.read().splitlines(keepends=True) if _parse(line) is not None]
    kept = set_aside(path)
    # Renumbered, or the gap would be found again.
    values = [json.loads(line) for line in good]
    for seq, value in enumerate(values):
        value.pop("crc", None)
        value["seq"] = seq
    write_bytes(path, b"".join(map(_sealed, values)))
    return kept


def _last_byte(path: Path) -> bytes:
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 1))
        return file.read(1)


def check_schema(path: Path) -> None:
    """Refuse a journal that a newer version has written to.

    Raises:
        NewerFormatError: it was.
    """
    check_format(_last_schema(path), SCHEMA, path)


def _last_schema(path: Path) -> int | None:
    """Version of the newest line that has one, among the last ones; None if there is none."""
    if not is_file(path):
        return None
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        for line in reversed(file.read().split(b"\n")):
            with suppress(ValueError):
                value = parse_json(line)
                if isinstance(value, dict) and isinstance(value.get("schema"), int):
                    return int(value["schema"])
    return None


def _parse(line: bytes) -> Entry | None:
    if not _whole(line):
        return None
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return entry_from_json(value) if isinstance(value, dict) else None

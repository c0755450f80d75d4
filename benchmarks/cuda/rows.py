"""What a check found: one line of JSON for each row, appended as it comes."""

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["pass", "fail", "", "not run", "not finished"]
"""Empty: a figure without a limit."""

LONGEST = 400
"""Characters of an error's text that are kept."""


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    group: str
    part: str
    what: str
    measured: str
    limit: str = ""
    verdict: Verdict = ""
    at: float = 0.0
    """Seconds since 1970."""


class Rows:
    """The rows of one part of a group. Several processes append to one file: a row is one `write`.

    Args:
        path: of the file.
        group: name.
        part: of the group, or empty.
    """

    def __init__(self, path: Path, group: str, part: str) -> None:
        self._path = path
        self._group = group
        self._part = part

    def add(self, what: str, measured: str, limit: str = "", verdict: Verdict = "") -> None:
        """A row with a verdict that the caller has made."""
        row = Row(self._group, self._part, what, measured, limit, verdict, round(time.time(), 2))
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, (json.dumps(asdict(row)) + "\n").encode())
        finally:
            os.close(file)

    def at_most(self, what: str, value: float, limit: float, unit: str = "", note: str = "") -> None:
        """A number that must not exceed a limit; NaN fails."""
        words = f"{value:.2g}{unit}" + (f" ({note})" if note else "")
        self.add(what, words, f"at most {limit:.2g}{unit}", "pass" if value <= limit else "fail")

    def holds(self, what: str, true: bool, measured: str, limit: str) -> None:
        """A statement that must be true."""
        self.add(what, measured, limit, "pass" if true else "fail")

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """An error inside the block becomes a failed row, and the part continues after it."""
        try:
            yield
        except Exception as error:
            self.add(what, error_words(error), "no error", "fail")
            error.__traceback__ = None  # it would keep the block's tensors alive


def error_words(error: BaseException) -> str:
    """The kind of an error, its text, and the last place of this repository it passed through."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/engine/" in frame.filename or "/benchmarks/" in frame.filename
    ]
    place = f" [{places[-1]}]" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST]}{place}"


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; a last line that a kill cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return rows

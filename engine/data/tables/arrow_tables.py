"""Tables of one split: Parquet files read a block of rows at a time, or an Arrow table of the `datasets` library.

Nothing is copied into a cache of that library: the columns with classes are read whole, pictures when they are needed.
"""

import bisect
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import CorruptFileError, DataError, UnreadableFileError
from engine.storage.filesystem import format_bytes
from engine.storage.reading import told_reads
from engine.storage.untrusted import open_regular, parse_json

MOST_ROWS = 10**9
MOST_COLUMNS = 1000
MOST_UNPACKED = 1000
"""How many times its size a Parquet file may claim to unpack to; pictures are compressed already."""
BLOCK_BYTES = 2**24
"""Bytes of rows unpacked at once, about."""
MOST_BLOCK_ROWS = 1000
KEPT_BYTES = 2**26
"""Bytes of unpacked rows that are kept, as several threads ask for neighbouring rows."""

Features = Mapping[str, Any]
"""Types of columns as the `datasets` library writes them: `{"label": {"_type": "ClassLabel", "names": [...]}}`."""


@dataclass(frozen=True)
class ColumnPart:
    """The values of a column in one file."""

    values: pa.ChunkedArray
    feature: Any
    """Its type as `datasets` states it, or None."""
    where: str
    """The file, for people."""


class Table(Protocol):
    """The rows of one split."""

    rows: int
    schema: pa.Schema
    features: Features
    roots: tuple[Path, ...]
    """Folders that a path in a row may point into."""

    def read(self, column: str) -> list[ColumnPart]:
        """All values of a column that is small."""

    def cells(self, column: str) -> Callable[[int], Any]:
        """A function from a row's number to its value, for any thread; cheap for ascending numbers."""


def features_of(schema: pa.Schema) -> Features:
    """The column types that `datasets` wrote into a schema; empty if there are none, or they are damaged."""
    try:
        text = (schema.metadata or {}).get(b"huggingface", b"{}")
        found = parse_json(text)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


class ArrowTable:
    """A table of the `datasets` library, which maps it into memory."""

    def __init__(self, table: pa.Table, features: Features, roots: tuple[Path, ...], where: str) -> None:
        self.rows = table.num_rows
        self.schema = table.schema
        self.features = features
        self.roots = roots
        self._table = table
        self._where = where

    def read(self, column: str) -> list[ColumnPart]:
        """All values of a column."""
        return [ColumnPart(self._table.column(column), self.features.get(column), self._where)]

    def cells(self, column: str) -> Callable[[int], Any]:
        """A function from a row's number to its value."""
        values = self._table.column(column)
        return lambda i: values[i].as_py()


@dataclass(frozen=True)
class _Group:
    """A row group, the unit of a Parquet file."""

    path: Path
    number: int
    first: int
    """Row of the split that is its first."""
    block: int
    """Rows to unpack at once."""


class ParquetTable:
    """Parquet files, one after another."""

    def __init__(self, paths: Sequence[Path], roots: tuple[Path, ...], types: Features) -> None:
        """Read what the files say about themselves; `types` are those of columns where they do not say.

        Raises:
            DataError: a file is no Parquet file, cannot be read, or claims too much.
        """
        self.rows = 0
        self.roots = roots
        self._paths = list(paths)
        self._groups: list[_Group] = []
        self._schemas = [self._add(path) for path in paths]
        self.schema = self._schemas[0]
        self._types = types
        self.features = features_of(self.schema) or types

    def _add(self, path: Path) -> pa.Schema:
        facts = read_claims(path)
        for number in range(facts.num_row_groups):
            group = facts.row_group(number)
            size = max(1, group.total_byte_size // max(1, group.num_rows))
            block = min(MOST_BLOCK_ROWS, max(1, BLOCK_BYTES // size))
            if group.num_rows:
                self._groups.append(_Group(path, number, self.rows, block))
                self.rows += group.num_rows
        with reading(path):
            schema = facts.schema.to_arrow_schema()
        twice = next((name for name, count in Counter(schema.names).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"{path} has several columns named {twice!r}.", "Write it again with a name for each.")
        return schema

    def read(self, column: str) -> list[ColumnPart]:
        """All values of a column, by file."""
        self._check(column)
        parts = []
        for path in self._paths:
            with reading(path), pa.memory_map(str(path)) as source:
                values = pq.ParquetFile(source).read(columns=[column], use_threads=False)
            features = features_of(values.schema) or self._types
            parts.append(ColumnPart(values.column(column), features.get(column), str(path)))
        return parts

    def cells(self, column: str) -> Callable[[int], Any]:
        """A function from a row's number to its value, for any thread."""
        self._check(column)
        return _Cells(self._groups, column).value

    def _check(self, column: str) -> None:
        """Every file must have a column that is used, and of the same kind."""
        kind = self.schema.field(column).type
        for path, schema in zip(self._paths, self._schemas, strict=True):
            other = schema.field(column).type if column in schema.names else None
            if other is None or pa.types.is_nested(other) != pa.types.is_nested(kind):
                what = f"is of type {other} in {path}, but {kind}" if other else f"is missing in {path}, but it is"
                raise DataError(
                    f"The column {column} {what} in {self._paths[0]}.",
                    "Set dataset.path to a folder with the files of one table.",
                )


class _Cells:
    """Values of a column by row. Rows are unpacked front to back, in blocks; going back starts a row group again."""

    def __init__(self, groups: list[_Group], column: str) -> None:
        self._groups = groups
        self._starts = [group.first for group in groups]
        self._column = column
        self._lock = threading.Lock()
        self._kept: list[tuple[int, pa.Array]] = []
        """The last blocks, each with its first row."""
        self._bytes = 0
        """Of these blocks."""
        self._file: tuple[Path, pq.ParquetFile] | None = None
        """The open file: what it says about itself takes milliseconds to read."""
        self._blocks: Iterator[Any] = iter(())
        self._next: int | None = None
        """First row of the block that `_blocks` yields next."""

    def value(self, i: int) -> Any:
        with self._lock:
            first, values = self._block(i)
        return values[i - first].as_py()

    def _block(self, i: int) -> tuple[int, pa.Array]:
        """The block with row `i`, and its first row."""
        for first, values in reversed(self._kept):
            if first <= i < first + len(values):
                return first, values
        number = self._group(i)
        path = self._groups[number].path
        with reading(path):
            at = self._next
            if at is None or i < at or self._group(at) != number or self._file is None or self._file[0] != path:
                self._start(number)
            try:
                while True:
                    first, values = self._advance()
                    if i < first + len(values):
                        return first, values
            except BaseException:
                self._next = None  # the reader may be anywhere
                raise

    def _group(self, i: int) -> int:
        return bisect.bisect_right(self._starts, i) - 1

    def _start(self, number: int) -> None:
        """Read from the start of a row group, to the end of its file unless asked for other rows first."""
        group = self._groups[number]
        if self._file is None or self._file[0] != group.path:
            self._file = group.path, pq.ParquetFile(pa.memory_map(str(group.path)))
        same = [other.number for other in self._groups[number:] if other.path == group.path]
        self._blocks = self._file[1].iter_batches(group.block, same, [self._column], use_threads=False)
        self._next = group.first

    def _advance(self) -> tuple[int, pa.Array]:
        first = self._next or 0
        batch = next(self._blocks, None)
        if batch is None:
            raise ValueError("a row group ends early")
        values = batch.column(0)
        self._next = first + len(values)
        self._kept.append((first, values))
        self._bytes += values.nbytes
        while len(self._kept) > 2 and self._bytes > KEPT_BYTES:
            self._bytes -= self._kept.pop(0)[1].nbytes
        return first, values


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of reading a Parquet file, with its name."""
    try:
        yield
    except (DataError, CorruptFileError, UnreadableFileError):
        raise
    except Exception as error:  # pyarrow raises errors of its own, and OSError and ValueError, on damaged files
        if isinstance(error, OSError):
            with suppress(OSError), told_reads(path):  # wrong bytes have no number
                raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        raise DataError(
            f"{path} cannot be read as a Parquet file: {reason}.",
            "If it is damaged, replace it by a complete copy, or move it out of the dataset to leave out its rows.",
        ) from error


def read_claims(path: Path) -> pq.FileMetaData:
    """What a Parquet file says about itself.

    Raises:
        DataError: it is no Parquet file, or claims to unpack to far too much.
    """
    with reading(path):
        open_regular(path).close()
        facts = pq.read_metadata(path)
        groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
        unpacked, packed = sum(group.total_byte_size for group in groups), path.stat().st_size
        negative = any(group.num_rows < 0 or group.total_byte_size < 0 for group in groups)
        rows = sum(group.num_rows for group in groups)
    if (
        negative
        or max(rows, facts.num_rows) > MOST_ROWS
        or facts.num_columns > MOST_COLUMNS
        or (unpacked > MOST_UNPACKED * packed)
    ):
        raise DataError(
            f"{path} claims {facts.num_rows:,} rows of {facts.num_columns} columns, {format_bytes(unpacked)} in "
            f"a file of {format_bytes(packed)}: that is not an image dataset.",
            "Remove it.",
        )
    return facts

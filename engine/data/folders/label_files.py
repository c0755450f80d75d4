"""Tables that come with pictures: `metadata.csv`, `.jsonl` or `.parquet`, or any table whose columns are set."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.folders.annotations import MOST_TEXT, lines_of
from engine.data.folders.filenames import extension, text_of
from engine.data.folders.tree import LABELS, Tree
from engine.errors import CorruptFileError, DataError
from engine.storage.untrusted import parse_json

MOST_UNPACKED = 2**30
"""Bytes that a Parquet file of labels may claim to unpack to."""
FILE_NAME = "file_name"
"""Hugging Face's column with the paths of pictures, relative to the table's folder."""


@dataclass(frozen=True)
class LabelFile:
    """A table, read."""

    path: str
    """Relative to the tree."""
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    @property
    def folder(self) -> str:
        """The folder it is in, relative to the tree; empty for the tree itself."""
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """Its name without the extension."""
        return self.path.rpartition("/")[2].rpartition(".")[0]


def label_paths(tree: Tree, *, stem: str | None = None) -> list[str]:
    """Tables below a tree, sorted: all, or those with this name before their extension."""
    found = [
        folder.join(name)
        for folder in tree.root.walk()
        for name in folder.others
        if extension(name) in LABELS and stem in (None, name.rpartition(".")[0])
    ]
    return sorted(found)


def read_label_file(tree: Tree, path: str) -> LabelFile:
    """Read a table.

    Raises:
        DataError: it is damaged, too large, or no table.
    """
    ending = extension(path)
    try:
        if ending == "parquet":
            columns, rows = _parquet(tree.reader.read(path, MOST_TEXT))
        elif ending == "jsonl":
            rows = [parse_json(line.encode()) for line in lines_of(tree, path)]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
            columns = tuple(dict.fromkeys(key for row in rows for key in row))
        else:
            columns, rows = _csv(tree.reader.read(path, MOST_TEXT).decode("utf-8-sig"), ending)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{tree.shown(path)} cannot be read as a table: it is not UTF-8 (byte {error.start:,}).",
            f"Convert it, for example with `iconv -f latin1 -t utf8 {text_of(path.rpartition('/')[2])} > new.csv`.",
        ) from error
    except (OSError, ValueError, csv.Error, CorruptFileError) as error:
        raise DataError(f"{tree.shown(path)} cannot be read as a table: {error}.", "Fix or remove it.") from error
    return LabelFile(path, columns, rows)


def _csv(text: str, ending: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    first = text.partition("\n")[0]
    # A file called .csv with semicolons or tabs is common; the header line tells.
    separator = "\t" if ending == "tsv" else max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = tuple(name.strip() for name in reader.fieldnames or ())
    if len(set(columns)) < len(columns):
        raise ValueError("two columns have the same name")
    reader.fieldnames = list(columns)
    return columns, list(reader)


def _parquet(data: bytes) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        claimed = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if claimed > MOST_UNPACKED:
            raise ValueError(f"it claims to unpack to {claimed:,} bytes")
        simple = [field.name for field in file.schema_arrow if not pyarrow.types.is_nested(field.type)]
        rows: list[dict[str, Any]] = file.read(columns=simple).to_pylist()
        return tuple(file.schema_arrow.names), rows
    except pyarrow.ArrowException as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else "it is damaged") from error


def label_of(value: Any) -> str | None:
    """A cell as the name of a class; None where it is missing.

    Raises:
        ValueError: it is a list or an object.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value).strip() or None
    raise ValueError(f"it holds {type(value).__name__} values, not one class for each picture")


def numeric_order(labels: set[str]) -> list[str] | None:
    """The labels by number if all are whole numbers (below 0: no class); None for names."""
    numbers = {label: re.fullmatch(r"(-?[0-9]{1,18})(\.0+)?", label) for label in labels}
    if not all(numbers.values()):
        return None
    whole = {label: int(match[1]) for label, match in numbers.items() if match}
    return sorted((label for label in labels if whole[label] >= 0), key=lambda label: (whole[label], label))


def columns_of(files: Sequence[LabelFile]) -> str:
    """Tables and their columns, for people."""
    shown = "; ".join(f"{text_of(file.path)} has the columns {', '.join(file.columns[:12])}" for file in files[:4])
    return shown + (f"; and {len(files) - 4} more tables" if files[4:] else "")

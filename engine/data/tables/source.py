"""From the tables of a dataset's splits to a source: which splits, which columns, which classes."""

import bisect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.decoding.pictures import BAD_FILE, decoded, header_of, opened
from engine.data.report import Choice, LeftOut, Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import Header, OpenSource, SourceSplit
from engine.data.splits import ALL, Roles, assign_roles, kind_of
from engine.data.tables.arrow_tables import Table
from engine.data.tables.columns import Columns, choose_columns, pixel_type
from engine.data.tables.labels import ClassColumn, has_labels, read_classes
from engine.data.tables.split_column import divided
from engine.errors import CorruptFileError, DataError, UsageError
from engine.settings.datasets import DatasetFacts
from engine.settings.overrides import written
from engine.storage.untrusted import read_bounded

READS = frozenset({"config", "train_split", "test_split", "image_column", "label_column"})
"""Settings that tables read."""
READING = 3
"""Version of how splits, columns and classes are chosen: part of a source's key, so that no older cache is reused."""
SURELY_IDS = 20
"""Classes above which a value a row is surely no class."""
SCARCE = 4
"""Images a class below which a column may hold something else than classes."""
EXAMPLES = 5
"""Files of a split that a report lists."""
MOST_BYTES = 2**30
"""Bytes of one picture's file."""


@dataclass(frozen=True)
class TableSplit:
    """A split and its table."""

    table: Table
    why: str
    """What tells that split, for people."""
    sources: tuple[str, ...] = ()
    """Its files."""


@dataclass(frozen=True)
class Tables:
    """A dataset of tables, as it was found."""

    splits: Mapping[str, TableSplit]
    config: Choice | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def open_tables(found: Tables, request: DataRequest, facts: DatasetFacts) -> OpenSource:
    """Decide on splits and columns, and read the classes; no picture is read but a few to see whether bytes are some.

    Raises:
        UsageError: a setting is wrong, or it takes one to decide.
        DataError: there are no images, or no classes.
    """
    splits = found.splits
    asked = (request.train_split, request.test_split)
    filled = [name for name, split in splits.items() if split.table.rows or name in asked]
    if not filled:
        raise DataError(
            f"{request.name} has no rows in any of its splits: {', '.join(splits)}.",
            "Set dataset.path to files that have rows.",
        )
    dividing = ""
    if len(filled) == 1 and request.train_split != ALL:
        splits, filled, dividing = _by_column(splits, filled, request)
    first = next((name for name in filled if kind_of(name) == "train"), filled[0])

    def withheld(name: str) -> bool:
        label = columns_of(splits[first].table, request, facts).label
        table = splits[name].table
        return label not in table.schema.names or not has_labels(table.read(label))

    roles = assign_roles(filled, *asked, withheld=withheld, preferred=facts.test_split)
    _check_overlap(request.name, splits, roles)
    columns = columns_of(splits[roles.train[0]].table, request, facts)
    used = [*roles.train, *([roles.test] if roles.test is not None else [])]
    for name in used:
        _check_columns(request.name, name, splits[name].table, columns)
    classes = read_classes(columns.label, {name: splits[name].table.read(columns.label) for name in used})
    doubts = _check_classes(request, columns, classes, sum(splits[name].table.rows for name in used))
    train = _joined(request.name, splits, roles.train, columns, classes)
    if not len(train.labels):
        raise DataError(f"{request.name} has no rows in the split {', '.join(roles.train)}.", "Choose another split.")
    test = _joined(request.name, splits, (roles.test,), columns, classes) if roles.test is not None else None
    listing = Listing(
        splits=tuple(
            SplitFacts(
                name,
                "train" if name in roles.train else "test" if name == roles.test else "unused",
                split.table.rows,
                "rows",
                f"{split.why}; {roles.why.get(name, 'not used: it is empty')}",
                split.sources[:EXAMPLES],
            )
            for name, split in splits.items()
        ),
        config=found.config,
        columns=tuple(replace(one, role="split") if one.name == dividing else one for one in columns.facts),
        class_order=classes.order,
        left_out=found.left_out,
        notes=(*found.notes, *roles.notes, *classes.notes, *doubts),
    )
    return OpenSource(classes.classes, None, None, train, test, listing)


def _by_column(
    splits: Mapping[str, TableSplit], filled: list[str], request: DataRequest
) -> tuple[Mapping[str, TableSplit], list[str], str]:
    """The splits that a column of the only split tells, if there is such a column, and that column."""
    found = divided(splits[filled[0]].table, request.label_column)
    if found is None:
        return splits, filled, ""
    column, parts = found
    return {split: TableSplit(table, f"the column {column}") for split, table in parts.items()}, list(parts), column


def columns_of(table: Table, request: DataRequest, facts: DatasetFacts) -> Columns:
    """The columns of a table that are used. Raises as `choose_columns`."""
    return choose_columns(table, request.name, request.image_column, request.label_column, facts.label_column)


def _check_overlap(name: str, splits: Mapping[str, TableSplit], roles: Roles) -> None:
    """What is trained on must not be tested on: README.md may put a file into several splits."""
    files = {file for split in roles.train for file in splits[split].sources}
    both = [file for file in splits[roles.test].sources if file in files] if roles.test is not None else []
    if both:
        raise UsageError(
            f"{name}: {both[0]}{f' (and {len(both) - 1} more files)' if both[1:] else ''} is in the splits "
            f"{', '.join(roles.train)} and {roles.test}, so that images would be trained on and tested on.",
            "Set dataset.train_split or dataset.test_split to another split, or dataset.test_split = none to hold out "
            "a fifth of the training images.",
        )


def _check_columns(name: str, split: str, table: Table, columns: Columns) -> None:
    for column in (columns.image, columns.label):
        if column not in table.schema.names:
            raise DataError(
                f"{name}: the split {split} has no column {column}; its columns are {', '.join(table.schema.names)}.",
                "Leave that split out with dataset.train_split or dataset.test_split.",
            )


def _check_classes(request: DataRequest, columns: Columns, classes: ClassColumn, rows: int) -> list[str]:
    """Whether the values of a column can be classes; notes where that is doubtful."""
    name, label, count = request.name, columns.label, len(classes.classes)
    if not count:
        raise DataError(
            f"{name}: the column {label} has no value in any of its {rows:,} rows.",
            "Set dataset.label_column to the column with the classes; unlabelled images cannot be distilled.",
        )
    if classes.stated or request.label_column is not None:
        return []
    if (columns.label_is_guess and rows > 2 and count == rows) or count == rows > SURELY_IDS:
        raise DataError(
            f"{name} has no column of classes: {label} has another value in each of its {rows:,} rows.",
            "It must have a column of class numbers or names; unlabelled images cannot be distilled. To use "
            f"{label} anyway, set dataset.label_column = {written(label)}.",
        )
    if count > SURELY_IDS and rows < SCARCE * count:
        return [
            f"The column {label} has {count:,} different values in {rows:,} rows, and each is a class. If they are "
            "ids or measurements, set dataset.label_column to another column, or convert them to classes."
        ]
    return []


def _joined(
    name: str, splits: Mapping[str, TableSplit], parts: tuple[str, ...], columns: Columns, classes: ClassColumn
) -> SourceSplit:
    """One or more splits as one."""
    parts = tuple(part for part in parts if splits[part].table.rows)
    starts = np.cumsum([0, *(splits[part].table.rows for part in parts)])[:-1].tolist()
    cells = [splits[part].table.cells(columns.image) for part in parts]
    roots = [splits[part].table.roots for part in parts]

    def at(i: int) -> tuple[int, int]:
        part = bisect.bisect_right(starts, i) - 1
        return part, i - starts[part]

    def called(i: int) -> str:
        part, row = at(int(i))
        return f"{name}: image {row} of the split {parts[part]}"

    def cell(i: int) -> Any:
        part, row = at(int(i))
        value = cells[part](row)
        if value is None:
            raise DataError(f"{name}: row {row} of the split {parts[part]} has no image.", BAD_FILE)
        return value

    def file(i: int) -> bytes:
        data = _bytes_of(cell(i), called(i), roots[at(int(i))[0]])
        if data is None:
            part, row = at(int(i))
            raise DataError(f"{name}: row {row} of the split {parts[part]} has no image.", BAD_FILE)
        return data

    empty = np.empty(0, dtype=np.int64)
    labels = np.concatenate([empty, *(classes.labels[part] for part in parts)])
    if columns.kind == "array":
        kind = pixel_type(splits[parts[0]].table, columns.image)
        return SourceSplit(labels, lambda i: _pixels(cell(i), kind, called(i)), name=called)
    return SourceSplit(
        labels, lambda i: _picture(file(i), called(i)), lambda i: _header(file(i), called(i)), file=file, name=called
    )


def _bytes_of(value: Any, called: str, roots: tuple[Path, ...]) -> bytes | None:
    """The picture file in a cell, or the one that its path names, if that is one of the dataset's own."""
    if not isinstance(value, dict):
        return bytes(value)
    data, path = value.get("bytes"), value.get("path")
    if data is None and path:
        try:
            return _file_of(str(path), roots)
        except (OSError, ValueError, CorruptFileError) as error:
            raise DataError(f"{called} cannot be decoded ({error}).", BAD_FILE) from error
    return data


def _file_of(path: str, roots: tuple[Path, ...]) -> bytes:
    """A picture in a separate file, inside the dataset's folder or the library's cache.

    Any other path in a table was chosen by its author, and would open a local file or an address.
    """
    for root in roots:
        base = root.resolve()
        whole = (base / path).resolve()
        if whole.is_relative_to(base) and whole.is_file():
            return read_bounded(whole, MOST_BYTES)
    raise ValueError("the row holds a path instead of an image")


def _guarded(work: Callable[[], Any], called: str) -> Any:
    try:
        return work()
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{called} cannot be decoded ({error}).", BAD_FILE) from error


def _picture(data: bytes, called: str) -> Any:
    def parse() -> Any:
        with opened(io.BytesIO(data)) as picture:
            return decoded(picture, upright=True)

    return _guarded(parse, called)


def _header(data: bytes, called: str) -> Header:
    def parse() -> Header:
        with opened(io.BytesIO(data)) as picture:
            return header_of(picture)

    found: Header = _guarded(parse, called)
    return found


def _pixels(value: Any, kind: np.dtype[Any], called: str) -> Any:
    """An array in a cell: `(H, W)`, `(H, W, 1)` or `(H, W, 3)`."""
    try:
        pixels = np.array(value, dtype=kind)
    except (ValueError, TypeError, OverflowError):  # rows of different lengths
        pixels = np.empty(0, dtype=kind)
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise DataError(
            f"{called} is not an array of shape (height, width) or (height, width, 3).",
            "Convert the column with `datasets`: dataset.cast_column(name, datasets.Image()).",
        )
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels

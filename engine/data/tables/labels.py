"""Class numbers from a column of a table: class labels, integers, names, booleans; one class an image."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.dataset import Classes
from engine.data.tables.arrow_tables import ColumnPart
from engine.errors import DataError

MISSING = -1
OTHER_COLUMN = "Choose another column with dataset.label_column, or convert this one to class numbers."
PLAIN_ORDER = "the names in plain string order, upper case before lower case and '10' before '2', as ImageFolder sorts"


@dataclass(frozen=True)
class ClassColumn:
    """The classes of a column, over the splits that are used."""

    classes: tuple[str, ...]
    labels: Mapping[str, Classes]
    """By split: `(N,)`; below 0 where there is none, and beyond the classes where the file says so."""
    order: str
    """What decides the numbers."""
    notes: tuple[str, ...]
    stated: bool
    """Whether the dataset itself lists the classes, as a ClassLabel."""


@dataclass(frozen=True)
class _Values:
    """A part of the column, plain."""

    kind: Literal["names", "numbers", "booleans", "texts", "nothing"]
    numbers: Classes
    """For texts: indices into `texts`. MISSING where there is no value."""
    texts: tuple[str, ...] = ()
    """Names of the class numbers, or the different texts."""
    missing: int = 0
    single: bool = False
    """Whether it came in lists of one."""
    where: str = ""
    """The file."""


def has_labels(parts: Iterable[ColumnPart]) -> bool:
    """Whether any row has a class."""
    return any(bool((values.numbers >= 0).any()) for values in map(_plain, parts))


def read_classes(column: str, splits: Mapping[str, Sequence[ColumnPart]]) -> ClassColumn:
    """The classes of a column, and the class number of every row.

    Args:
        column: its name, for people.
        splits: its parts by split, of the splits that are used.

    Raises:
        DataError: the values are no classes, or differ in type between files.
    """
    plain = {split: [_named(column, part) for part in parts] for split, parts in splits.items()}
    every = [values for parts in plain.values() for values in parts]
    kinds = {values.kind for values in every} - {"nothing"}
    notes = []
    missing = sum(values.missing for values in every)
    if missing:
        notes.append(f"{missing:,} rows have no value in the column {column}.")
    if any(values.single for values in every):
        notes.append(f"The column {column} holds lists of at most one class; that class is taken.")
    if kinds == {"names", "numbers"}:
        notes.append(f"Only some files name the numbers of the column {column}; the names are used for all.")
        kinds = {"names"}
    if len(kinds) > 1:
        first = {values.kind: values.where for values in reversed(every)}
        held = " and ".join(f"{kind} in {first[kind]}" for kind in sorted(kinds))
        raise DataError(f"The column {column} holds {held}.", "Use files of one table, or convert the column in one.")
    kind = kinds.pop() if kinds else "nothing"
    if kind in ("names", "texts"):
        classes, labels = _by_name(plain, sorted_names=kind == "texts", column=column, notes=notes)
        order = f"the order of the column {column}, a ClassLabel" if kind == "names" else PLAIN_ORDER
    elif kind == "booleans":
        classes, labels, order = ("False", "True"), _joined(plain), "False, True"
    else:
        classes, labels = _by_number(plain, column, notes)
        order = f"the numbers in the column {column}"
    return ClassColumn(classes, labels, order, tuple(notes), kind == "names")


Parts = Mapping[str, Sequence[_Values]]


def _joined(splits: Parts) -> dict[str, Classes]:
    empty = np.empty(0, dtype=np.int64)
    return {split: np.concatenate([empty, *(values.numbers for values in parts)]) for split, parts in splits.items()}


def _by_name(splits: Parts, *, sorted_names: bool, column: str, notes: list[str]) -> tuple[tuple[str, ...], Any]:
    """One numbering for all files: files that number the same classes otherwise must not mix them up."""
    lists = list(dict.fromkeys(values.texts for parts in splits.values() for values in parts if values.texts))
    names = list(dict.fromkeys(name for texts in lists for name in texts))
    if sorted_names:
        names.sort()
    elif len(lists) > 1:
        notes.append(f"Files differ in the class names of the column {column}; classes are matched by name.")
    place = {name: number for number, name in enumerate(names)}

    def moved(values: _Values) -> Classes:
        if values.texts in ((), tuple(names)):
            return values.numbers
        table = np.array([place[name] for name in values.texts], dtype=np.int64)
        known = (values.numbers >= 0) & (values.numbers < len(table))
        beyond = np.where(values.numbers >= len(table), len(names) + values.numbers, values.numbers)
        return np.where(known, table[np.where(known, values.numbers, 0)], beyond)

    empty = np.empty(0, dtype=np.int64)
    labels = {split: np.concatenate([empty, *map(moved, parts)]) for split, parts in splits.items()}
    return tuple(names), labels


def _by_number(splits: Parts, column: str, notes: list[str]) -> tuple[tuple[str, ...], Any]:
    """Numbers without names: the classes are the numbers that occur, so that no class is without images."""
    labels = _joined(splits)
    present = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *labels.values()]))
    present = present[present >= 0]
    if len(present) and (present[0] != 0 or present[-1] != len(present) - 1):
        shown = ", ".join(map(str, present[:3])) + (f", ..., {present[-1]}" if len(present) > 3 else "")
        notes.append(
            f"The numbers in the column {column} are not 0 to {len(present) - 1} but {shown}; each is a class, and "
            "classes are numbered in that order."
        )
        labels = {
            split: np.where(values >= 0, np.searchsorted(present, values), values) for split, values in labels.items()
        }
    return tuple(map(str, present)), labels


def _named(column: str, part: ColumnPart) -> _Values:
    try:
        return replace(_plain(part), where=part.where)
    except pa.ArrowException as error:
        what = f"cannot be read as classes ({str(error).rstrip('.')})"
        raise DataError(f"{part.where}: the column {column} {what}.", OTHER_COLUMN) from error
    except ValueError as error:
        raise DataError(f"{part.where}: the column {column} {error}.", OTHER_COLUMN) from error


def _plain(part: ColumnPart) -> _Values:
    """The values of a part.

    Raises:
        ValueError: they are no classes; the message continues `the column x`.
    """
    values, feature, single = part.values, part.feature, False
    while is_list(values.type):
        values, single = _only_items(values), True
        feature = item_of(feature)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_null(kind):
        return _Values("nothing", np.full(len(values), MISSING, dtype=np.int64), (), len(values), single)
    if is_text(kind):
        return _texts(values, single)
    if pa.types.is_boolean(kind):
        return _Values("booleans", _integers(values), (), values.null_count, single)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _whole(values)
    elif not pa.types.is_integer(kind):
        raise ValueError(f"holds values of type {kind}, not classes")
    names = class_names(feature)
    return _Values("numbers" if names is None else "names", _integers(values), names or (), values.null_count, single)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists of any sort."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts of any sort."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def item_of(feature: Any) -> Any:
    """The type of the items of a list's type, as `datasets` writes it."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a ClassLabel; None for any other type.

    Raises:
        ValueError: the names are damaged; the message continues `the column x`.
    """
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"is a ClassLabel with the name {twice!r} twice")
    return tuple(names)


def _only_items(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of lists with at most one item that item, null for an empty list."""
    chunks = []
    for chunk in values.chunks:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0))
        several = int((lengths > 1).sum())
        if several:
            raise ValueError(f"holds several classes an image in {several:,} rows; an image has one class here")
        # Indices into the items, null where there is none: lists that are null may still take up room.
        items = chunk.flatten()
        index = np.cumsum(lengths) - lengths
        chunks.append(items.take(pa.array(index, mask=lengths == 0)))
    return pa.chunked_array(chunks, type=values.type.value_type)


def _texts(values: pa.ChunkedArray, single: bool) -> _Values:
    encoded = values.cast(pa.large_string()).combine_chunks().dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    numbers = np.asarray(pc.fill_null(encoded.indices, MISSING)).astype(np.int64)
    if "" in names:  # as good as none
        kept = [name for name in names if name]
        place = {name: number for number, name in enumerate(kept)}
        table = np.array([place.get(name, MISSING) for name in names], dtype=np.int64)
        numbers, names = np.where(numbers >= 0, table[numbers], MISSING), kept
    return _Values("texts", numbers, tuple(names), int((numbers < 0).sum()), single)


def _whole(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floating point and decimal numbers as integers."""
    numbers: npt.NDArray[np.float64] = np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan), dtype=np.float64)
    known = ~np.isnan(numbers)
    odd = numbers[known][(numbers[known] != np.trunc(numbers[known])) | (np.abs(numbers[known]) > 2**53)]
    if len(odd):
        raise ValueError(f"holds numbers such as {odd[0]:g}, not classes")
    return pa.chunked_array([pa.array(np.where(known, numbers, 0).astype(np.int64), mask=~known)])


def _integers(values: pa.ChunkedArray) -> Classes:
    whole = pc.fill_null(values.cast(pa.int64()), MISSING)
    return np.asarray(whole).astype(np.int64)

"""A column that says which rows train and test, where neither folders nor file names do."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.dataset import Classes
from engine.data.split_roles import KEYWORDS, kind_of
from engine.data.tables.arrow_tables import ColumnPart, Table
from engine.data.tables.columns import LABEL_NAMES
from engine.data.tables.labels import class_names, read_classes


class RowsTable:
    """Some rows of a table."""

    def __init__(self, table: Table, index: Classes) -> None:
        self.rows = len(index)
        self.schema = table.schema
        self.features = table.features
        self.roots = table.roots
        self._table = table
        self._index = index

    def read(self, column: str) -> list[ColumnPart]:
        """All values of a column, by file."""
        parts, first = [], 0
        for part in self._table.read(column):
            inside = self._index[(self._index >= first) & (self._index < first + len(part.values))] - first
            parts.append(replace(part, values=part.values.take(pa.array(inside))))
            first += len(part.values)
        return parts

    def cells(self, column: str) -> Callable[[int], Any]:
        """A function from a row's number to its value, for any thread."""
        cell = self._table.cells(column)
        return lambda i: cell(int(self._index[i]))


def divided(table: Table, label: str | None) -> tuple[str, dict[str, RowsTable]] | None:
    """The column that says which rows train and test, and the rows of each split; None if there is no such column.

    Every value of it must be a usual word for a split, and there must be several splits.

    Args:
        table: with all rows.
        label: the column of the classes, if it is set.
    """
    for column in table.schema.names:
        if column == label or column.lower() in LABEL_NAMES or not _may_tell(table, column):
            continue
        found = read_classes(column, {"all": table.read(column)})
        numbers = found.labels["all"]
        kinds = [kind_of(name.strip().lower()) for name in found.classes]
        if not set(kinds) <= set(KEYWORDS) or ((numbers < 0) | (numbers >= len(kinds))).any():
            continue
        of_row = np.array([list(KEYWORDS).index(kind) for kind in kinds])[numbers]
        rows = {kind: np.flatnonzero(of_row == place) for place, kind in enumerate(KEYWORDS)}
        parts = {kind: RowsTable(table, index) for kind, index in rows.items() if len(index)}
        if len(parts) > 1:
            return column, parts
    return None


def _may_tell(table: Table, column: str) -> bool:
    """Whether the type and first value of a column are those of splits: most columns need not be read."""
    with suppress(ValueError):  # a damaged type is told when the column is read
        names = class_names(table.features.get(column))
        if names is not None:
            return {kind_of(name.lower()) for name in names} <= set(KEYWORDS)
    kind = table.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text and kind_of(str(table.cells(column)(0)).strip().lower()) in KEYWORDS)

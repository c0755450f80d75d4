"""Which column of a table holds the images, and which the classes. What is not plain is asked for."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from engine.data.report import ColumnFacts
from engine.data.tables.arrow_tables import Table
from engine.data.tables.conversions import PROBED, advice, holds_picture, is_bytes
from engine.data.tables.labels import class_names, is_list, is_text, item_of
from engine.errors import DataError, UsageError
from engine.settings.overrides import written

LABEL_NAMES = ("label", "labels")
"""Names of a column that is taken for the classes although its type does not say so."""

Kind = Literal["file", "array"]


@dataclass(frozen=True)
class Columns:
    """The two columns that are used."""

    image: str
    kind: Kind
    """file: encoded pictures, as bytes or `{bytes, path}`; array: nested lists of pixels."""
    label: str
    label_is_guess: bool
    """Whether it was taken only because no other column can hold classes."""
    facts: tuple[ColumnFacts, ...]
    """All columns."""


def choose_columns(
    table: Table, name: str, image_column: str | None, label_column: str | None, usual_label: str = ""
) -> Columns:
    """Choose the columns of a table.

    Args:
        table: of the training split.
        name: the dataset, for people.
        image_column: the setting.
        label_column: the setting.
        usual_label: the column that this dataset is known by.

    Raises:
        UsageError: a setting names no column, or several columns would do.
        DataError: no column will do.
    """
    image, kind, image_why = _image(table, name, image_column)
    label, label_why = _label(table, name, image, label_column, usual_label)
    facts = []
    for column in table.schema.names:
        role: Literal["image", "label", "unused"] = "unused"
        why = ""
        if column == image:
            role, why = "image", image_why
        elif column == label:
            role, why = "label", label_why
        facts.append(ColumnFacts(column, type_words(table, column), role, why))
    return Columns(image, kind, label, label_why == ONLY, tuple(facts))


def type_words(table: Table, column: str) -> str:
    """The type of a column, for people."""
    feature = table.features.get(column)
    if isinstance(feature, dict) and feature.get("_type") in ("Image", "Audio", "Video", "Pdf"):
        return str(feature["_type"])
    return _kind_words(table.schema.field(column).type, feature)


def _kind_words(kind: pa.DataType, feature: Any) -> str:
    names = _names(feature)
    if names is not None:
        return f"ClassLabel of {len(names)} names"
    if is_list(kind):
        return f"list of {_kind_words(kind.value_type, item_of(feature))}"
    if pa.types.is_dictionary(kind):
        return str(kind.value_type)
    if pa.types.is_struct(kind):
        return f"struct of {', '.join(kind.names)}"
    return str(kind)


def _names(feature: Any) -> tuple[str, ...] | None:
    try:
        return class_names(feature)
    except ValueError:  # told when the column is read
        return ("",)


# ---------------------------------------------------------------- images


def _image(table: Table, name: str, wanted: str | None) -> tuple[str, Kind, str]:
    if wanted is not None:
        _check_name(table, "image_column", wanted)
        kind = _image_kind(table, wanted, probe=False)
        if kind is None:
            about, hint = advice(table, [wanted])
            raise UsageError(
                f"dataset.image_column = {written(wanted)}: that column holds {type_words(table, wanted)}, not images."
                f"{about}",
                hint,
            )
        return wanted, kind, f"dataset.image_column = {written(wanted)}"
    found = {column: kind for column in table.schema.names if (kind := _image_kind(table, column, probe=True))}
    if not found:
        about, hint = advice(table, table.schema.names)
        raise DataError(
            f"{name} has no column of images: its columns are {_listed(table)}.{about}",
            f"It must have a column of type Image, or of bytes that are pictures. {hint}",
        )
    if len(found) > 1:
        raise UsageError(
            f"{name} has several columns of images: {', '.join(map(written, found))}.",
            f"Set dataset.image_column to one of them, as in dataset.image_column = {written(next(iter(found)))}.",
        )
    ((column, kind),) = found.items()
    return column, kind, "the only column of images"


def _image_kind(table: Table, column: str, *, probe: bool) -> Kind | None:
    """How a column holds images; None if it does not. Bytes without a type are looked at if `probe` is set."""
    feature = table.features.get(column)
    kind = table.schema.field(column).type
    stated = feature.get("_type") if isinstance(feature, dict) else None
    if pa.types.is_struct(kind):
        if "bytes" not in kind.names or not is_bytes(kind.field("bytes").type):
            return None
        if stated is not None:
            return "file" if stated == "Image" else None
    elif is_bytes(kind):
        if stated == "Image":
            return "file"
    else:
        return "array" if _is_array(kind, feature, sure=probe) else None
    return "file" if not probe or _holds_pictures(table.cells(column), table.rows) else None


def _is_array(kind: pa.DataType, feature: Any, *, sure: bool) -> bool:
    """Whether a column holds rows of pixels: two or three nested lists of numbers, `(H, W)` or `(H, W, 3)`.

    `sure`: only bytes, or arrays by their type; other lists may as well be boxes.
    """
    stated = isinstance(feature, dict) and feature.get("_type") in ("Array2D", "Array3D")
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    depth = 0
    while is_list(kind):
        kind, depth = kind.value_type, depth + 1
        feature = item_of(feature)
    if depth not in (2, 3) or _names(feature) is not None:
        return False
    if sure and not stated:
        return bool(pa.types.is_uint8(kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def pixel_type(table: Table, column: str) -> np.dtype[Any]:
    """The type of the pixels in a column of arrays."""
    kind = table.schema.field(column).type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    while is_list(kind):
        kind = kind.value_type
    found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return found


def _holds_pictures(cell: Callable[[int], Any], rows: int) -> bool:
    """Whether one of the first values is a picture, by its header; paths without bytes are told row by row."""
    values = [cell(i) for i in range(min(rows, PROBED))]
    for value in values:
        if holds_picture(value.get("bytes") if isinstance(value, dict) else value):
            return True
    return any(isinstance(value, dict) and value.get("path") and not value.get("bytes") for value in values)


# ---------------------------------------------------------------- classes

ONLY = "the only other column that can hold classes"


def _label(table: Table, name: str, image: str, wanted: str | None, usual: str) -> tuple[str, str]:
    others = [column for column in table.schema.names if column != image]
    if wanted is not None:
        _check_name(table, "label_column", wanted)
        if wanted == image:
            raise UsageError(
                f"dataset.label_column = {written(wanted)}: that column holds the images.", _choose(others)
            )
        return wanted, f"dataset.label_column = {written(wanted)}"
    if usual in others:
        return usual, f"the usual label column of {name}"
    classes = [column for column in others if _names(_innermost(table.features.get(column))) is not None]
    named = [column for column in others if column.lower() in LABEL_NAMES and column not in classes]
    if len(classes) + len(named) == 1:
        column = (classes or named)[0]
        return column, "the only column of type ClassLabel" if classes else "by its name"
    plain = [column for column in others if _may_hold_classes(table.schema.field(column).type)]
    candidates = [*classes, *named] or plain
    if len(candidates) == 1:
        return candidates[0], ONLY
    if not candidates:
        raise DataError(
            f"{name} has no column of classes: its columns are {_listed(table)}.",
            "It must have a column of class numbers or names; unlabelled images cannot be distilled.",
        )
    raise UsageError(
        f"{name} has several columns that may hold the classes: {', '.join(map(written, candidates))}.",
        _choose(candidates),
    )


def _innermost(feature: Any) -> Any:
    """The type of a list's items, and a ClassLabel as it is: several classes an image are refused by name later."""
    item = item_of(feature)
    return feature if item is None else _innermost(item)


def _may_hold_classes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_text(kind))


def _choose(columns: Sequence[str]) -> str:
    if not columns:
        return ""
    return f"Set dataset.label_column to one of them, as in dataset.label_column = {written(columns[0])}."


def _check_name(table: Table, key: str, wanted: str) -> None:
    if wanted in table.schema.names:
        return
    near = difflib.get_close_matches(wanted, table.schema.names, n=1)
    raise UsageError(
        f"dataset.{key} = {written(wanted)}: there is no such column. The columns are {_listed(table)}.",
        f"Did you mean {written(near[0])}?" if near else f"Set dataset.{key} to one of them.",
    )


def _listed(table: Table) -> str:
    shown = [f"{written(column)} ({type_words(table, column)})" for column in table.schema.names[:20]]
    return ", ".join(shown) + (", ..." if len(table.schema.names) > 20 else "")

"""What a column without images holds instead, and how to make a column of images of it."""

import base64
import binascii
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from engine.data.decoding.pictures import opened
from engine.data.tables.arrow_tables import Table
from engine.data.tables.labels import is_list, is_text

PROBED = 20
"""Rows that are looked at."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CONVERT = "Convert it with `datasets`: dataset.cast_column(name, datasets.Image()), then dataset.to_parquet(file)."


def advice(table: Table, columns: Sequence[str]) -> tuple[str, str]:
    """Why a column that looks like images is none, where that is plain, and how to convert it.

    Returns:
        A sentence with a space before it, or nothing; and a hint.
    """
    found = [(column, *what) for column in columns if (what := _what(table, column)) is not None]
    if len(found) != 1:
        return "", CONVERT
    column, words, value = found[0]
    if not value:
        return f" {words}", CONVERT
    name = json.dumps(column, ensure_ascii=False)
    return f" {words}", (
        f"Convert it with `datasets`: dataset.map(lambda row: {{{name}: {value.format(f'row[{name}]')}}})"
        f'.cast_column({name}, datasets.Image()).to_parquet("images.parquet").'
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds bytes of any sort."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def holds_picture(data: Any) -> bool:
    """Whether bytes start as a picture does."""
    if data:
        with suppress(Exception):  # Pillow raises any exception on what is no picture
            opened(io.BytesIO(data)).close()
            return True
    return False


def _what(table: Table, column: str) -> tuple[str, str] | None:
    """A sentence on a column that holds something like images, and a Python expression for the bytes of one."""
    kind = table.schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_list(kind):
        inner = kind.value_type
        if pa.types.is_struct(inner) and "bytes" in inner.names:
            return f"The column {column} holds lists of images; a row must have one image.", "{}[0]"
        return None
    if pa.types.is_struct(kind):
        data = [kind.field(i).name for i in range(kind.num_fields) if is_bytes(kind.field(i).type)]
        if "bytes" in data:
            return _no_pictures(table, column), ""
        if len(data) == 1:
            fields = ", ".join(kind.names)
            return f"The column {column} has no field `bytes`; its fields are {fields}.", f'{{}}["{data[0]}"]'
        return None
    if not is_bytes(kind) and not is_text(kind):
        return None
    cell = table.cells(column)
    values = [value for i in range(min(table.rows, PROBED)) if (value := cell(i))]
    texts = [value if isinstance(value, str) else value.decode("ascii", "replace") for value in values]
    if any(map(_is_base64_picture, texts)):
        text = '{}.partition(",")[2]' if texts[0].startswith("data:") else "{}"
        return f"The column {column} holds pictures as base64 text.", f"base64.b64decode({text})"
    if is_bytes(kind):
        return _no_pictures(table, column), ""
    if any(re.match(r"[A-Za-z][A-Za-z0-9]+://", text) for text in texts):
        words = f"The column {column} holds addresses: nothing in a table is downloaded."
        return words, "urllib.request.urlopen({}).read()"
    if any(text.lower().endswith(PICTURES) for text in texts):
        words = f"The column {column} holds paths: files that a table names are not opened."
        return words, "pathlib.Path({}).read_bytes()"
    return None


def _no_pictures(table: Table, column: str) -> str:
    if not table.rows:
        return f"The column {column} is empty."
    return f"The first {min(table.rows, PROBED)} values of {column} are no pictures."


def _is_base64_picture(text: str) -> bool:
    with suppress(binascii.Error, ValueError):
        return holds_picture(base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text))
    return False

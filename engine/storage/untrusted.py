"""Reading untrusted files: only regular files, only up to a size, only values of the expected type.

A workspace can come from anyone. A named pipe instead of a file would make a reader wait forever, a device would fill
the memory, a JSON number may be `Infinity` instead of a count. Every reader of small files goes through here.
"""

import dataclasses
import json
import math
import os
import stat
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar

from engine.errors import CorruptFileError, UnreadableFileError
from engine.storage.filesystem import format_bytes
from engine.storage.reading import SPECIAL, open_to_read, told_reads

Made = TypeVar("Made")

MOST_JSON = 2**26
"""Bytes of a JSON file; the largest lists 20,000 classes or the checksums of a thousand snapshots."""
LATEST = 2.0**33
"""Latest plausible time, in seconds since 1970 (the year 2242)."""
MOST_INT = 2**63
"""Largest plausible integer."""
HUGE = 2**34
"""Bytes above which a file that takes next to no space on its disk is not read: it would take hours to find nothing."""
SHARE = 100
"""A huge file takes at least this part of its size on the disk; one of real numbers does under any compression."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a file: neither a pipe, nor a device, nor a folder.

    Raises:
        CorruptFileError: it is something else, or huge and empty.
        UnreadableFileError: the system refuses, now or at a later read.
        OSError: absent.
    """
    try:
        file = open_to_read(path)
    except ValueError as error:  # a null character
        raise CorruptFileError(f"{str(path)!r} is not the name of a file.") from error
    except UnreadableFileError as error:
        if error.errno in SPECIAL:
            raise _not_regular(path) from error
        raise
    with told_reads(path):
        status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise _not_regular(path)
    if words := emptiness(status):
        file.close()
        raise CorruptFileError(f"{path} {words}.", "Remove it, or replace it with a whole copy.")
    return file


def emptiness(status: os.stat_result) -> str:
    """What is odd about a huge file that is nearly all hole, as an interrupted download may leave; else empty.

    Args:
        status: of a regular file.
    """
    there = status.st_blocks * 512
    if status.st_size < HUGE or there >= status.st_size // SHARE:
        return ""
    return f"has {format_bytes(status.st_size)}, of which only {format_bytes(there)} are on the disk"


def _not_regular(path: Path) -> CorruptFileError:
    return CorruptFileError(f"{path} is not a regular file.", "Remove it; a workspace contains no pipes or devices.")


def read_bounded(path: Path, most: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        CorruptFileError: not a regular file, or larger than `most` bytes.
        UnreadableFileError: the system refuses.
        OSError: absent.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            return file.read(size)
    raise CorruptFileError(
        f"{path} has {size:,} bytes; a file of this kind has at most {most:,}.", "Move it out of the workspace."
    )


def parse_json(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def typed(cls: type[Made], value: Any) -> Made:
    """A dataclass from a JSON object; fields it does not know are dropped, as a newer version may have more.

    Raises:
        ValueError: not an object, a field is missing, or one is not of its type: a boolean or an infinite number is
            no count, a text no number.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"it is not a {cls.__name__}")
    given = {}
    for name, fits in _checks(cls):  # type: ignore[arg-type]
        if name in value:
            if not fits(value[name]):
                raise ValueError(f"{name!r} of {cls.__name__} has the wrong type")
            given[name] = value[name]
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"a field of {cls.__name__} is missing") from error


def whole_number(value: Any) -> TypeGuard[int]:
    """Whether it is an integer of a plausible size."""
    return isinstance(value, int) and not isinstance(value, bool) and -MOST_INT <= value < MOST_INT


def number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return whole_number(value) or (isinstance(value, float) and math.isfinite(value))


def moment(value: Any) -> TypeGuard[float]:
    """Whether it is a time that a calendar can show, seconds since 1970."""
    return number(value) and 0 <= value < LATEST


def iteration_of(path: Path) -> int | None:
    """The iteration a file is named after; None for a name that tesla does not write (`5.png`, a superscript two)."""
    digits = path.stem
    iteration = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 19 else None
    return iteration if iteration is not None and digits == f"{iteration:07d}" else None


Check = Callable[[Any], bool]


@cache
def _checks(cls: type) -> tuple[tuple[str, Check], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, _check(hints[field.name])) for field in dataclasses.fields(cls))


def _check(hint: Any) -> Check:
    simple: dict[Any, Check] = {
        int: whole_number,
        float: number,
        str: lambda value: isinstance(value, str),
        bool: lambda value: isinstance(value, bool),
        types.NoneType: lambda value: value is None,
        Any: lambda value: True,
    }
    if hint in simple:
        return simple[hint]
    origin, parts = typing.get_origin(hint), [_check(part) for part in typing.get_args(hint)]
    if origin in (types.UnionType, typing.Union):
        return lambda value: any(fits(value) for fits in parts)
    if origin is list:
        return lambda value: isinstance(value, list) and all(parts[0](item) for item in value)
    if origin is dict:
        return lambda value: isinstance(value, dict)
    raise TypeError(f"no JSON value is checked for {hint}")

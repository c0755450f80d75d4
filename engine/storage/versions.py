"""Versions of the files on disk. Every file that is read again has a version number; a file without one has the first.

A newer file than this version knows is refused by name and left unchanged: its meaning is unknown, so it is not
damage to repair. A newer version that changes a file raises that file's number and still reads older ones.
"""

from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, NewerFormatError

FIRST = 1
"""Of files written before they had a number."""


def check_format(found: Any, newest: int, path: Path) -> int:
    """The format of a file.

    Args:
        found: the number in the file; None if there is none.
        newest: what this version writes.
        path: the file, to name it.

    Raises:
        NewerFormatError: a newer version wrote it.
        CorruptFileError: no such format exists.
    """
    number = FIRST if found is None else found
    if not isinstance(number, int) or isinstance(number, bool) or number < FIRST:
        raise CorruptFileError(
            f"{path} has format {found!r}, which does not exist.",
            "The file is damaged; restore it from a copy, or remove it.",
        )
    if number > newest:
        raise NewerFormatError(
            f"{path} has format {number}; this version of tesla-tui reads up to {newest}.",
            "Upgrade tesla-tui. The file was left unchanged.",
        )
    return number

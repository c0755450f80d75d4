"""Versions of the files on disk. Every file that is read again carries its number; a file without one has the first.

A newer file than this version knows is refused by name and left as it is: what it means cannot be guessed, so it is no
damage that anything may repair. A newer version that changes a file raises that file's number and reads the older ones.
"""

from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, NewerFormatError

FIRST = 1
"""Of files that were written before they carried a number."""


def check_format(found: Any, newest: int, path: Path) -> int:
    """The format of a file.

    Args:
        found: what the file says of itself; None if nothing.
        newest: what this version writes.
        path: the file, to name it.

    Raises:
        NewerFormatError: a newer version wrote it.
        CorruptFileError: that is no format there ever was.
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

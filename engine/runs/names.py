"""Names of runs and of imported buffers: folders on this file system, and on any that a workspace is copied to."""

import re

from engine.errors import UsageError
from engine.storage.temp_files import ASIDE, TEMP_MARK

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEVICE = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any ending: it and the shares it serves have no folder of such a name."""
IMPORTING = ".importing"
"""Ends the name of a buffer's folder until it is whole."""


def check_name(name: str, what: str) -> None:
    """Refuse a name for something new.

    Args:
        name: as given.
        what: what gets it, for the message: `run` or `buffer`.

    Raises:
        UsageError: no name of a folder, or one that means something else.
    """
    if not NAME.fullmatch(name):
        reason = ""
    elif DEVICE.fullmatch(name):
        reason = ": it is the name of a device on Windows"
    elif name.endswith("."):
        reason = ": Windows drops a dot at the end"
    elif TEMP_MARK in name or name.endswith(IMPORTING):
        reason = ": tesla names its unfinished files so"
    elif name.lower() == ASIDE:
        reason = ": tesla moves damaged files to a folder of that name"
    else:
        return
    raise UsageError(
        f"{name!r} is not a valid {what} name{reason}.",
        "Use letters, digits, dot, dash and underscore, at most 64 of them.",
    )

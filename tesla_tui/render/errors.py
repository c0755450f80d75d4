"""Errors on standard error: one paragraph with what happened and what to do next."""

import errno
import re
import sys

from engine.errors import ExitCode, system_reason


def complain(message: str, hint: str, code: ExitCode) -> int:
    """One paragraph on standard error: what happened, and what to do next."""
    from rich.console import Console
    from rich.text import Text

    from tesla_tui.render.commands import callable_here
    from tesla_tui.render.words import clean

    text = Text.assemble(("Error: ", "bold red"), clean(message))
    if hint:
        text.append(" ").append(clean(callable_here(hint)), "bold")
    if setting := re.search(r"\b(dataset\.\w+) = ([a-z]+)(?![\w-])", hint):
        text.append(f" To set it: --set {setting[1]}={setting[2]}, or in tesla.toml for every run.")
    if sys.stderr is not None:  # it was closed: `2>&-`
        Console(stderr=True, soft_wrap=not sys.stderr.isatty()).print(text)
    return code


def refusal_words(error: OSError) -> tuple[str, str]:
    """Message and hint for what the system refused in a place that had no better words.

    Args:
        error: the system's, with a number.
    """
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full{where}.",
            "Free some space and run the same command again; saved files are intact.",
        )
    if error.errno == errno.EFBIG:
        return (
            f"The limit on the size of files is reached{where}.",
            "Raise it (ulimit -f) and run the same command again.",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"Too many files are open{where}.",
            "Raise the limit (ulimit -n) and run the same command again; saved files are intact.",
        )
    if error.errno == errno.EAGAIN:
        return (
            f"The system starts no more threads or processes for this user ({system_reason(error)}).",
            "Raise the limit (ulimit -u, or that of the container) or end other programs, and run the same command "
            "again; saved files are intact.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to read or write{where}: {system_reason(error)}.", "Check the folder's owner and mode."
    if error.errno == errno.ELOOP:
        return f"{error.filename} is a symbolic link; tesla does not write through links.", "Remove the link."
    return (
        f"{system_reason(error)}{where}.",
        "Fix that and run the same command again; saved files are intact.",
    )

"""Errors for users: what happened, where, and what to do next."""

import os
import shlex
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of every `tesla` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    HANGUP = 129
    OUT_OF_MEMORY = 12
    """As the system's own error of that meaning, ENOMEM."""
    INTERNAL = 70
    """An unexpected error, as EX_SOFTWARE of sysexits.h."""
    INTERRUPTED = 130
    TERMINATED = 143


class TeslaError(Exception):
    """An error with a message for the user; any other exception that escapes is a bug, and ends with exit code 70.

    `message` says what happened and where, `hint` says what to do next. Both are complete sentences.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class UsageError(TeslaError):
    """The request itself is invalid: a wrong key, a wrong value, a folder that is not a workspace."""

    exit_code = ExitCode.USAGE


class SettingsError(UsageError):
    """One or more settings are wrong; the message names each key."""


class DataError(TeslaError):
    """A dataset cannot be read or downloaded."""


class CorruptFileError(TeslaError):
    """A file does not match its checksum or its format."""


class DiskError(TeslaError, OSError):
    """The system refused a write: no space, no permission, a failing device. Also an OSError, with its `errno`."""

    def __init__(self, message: str, hint: str, number: int | None) -> None:
        super().__init__(message, hint)
        self.errno = number
        self.strerror = os.strerror(number) if number else message  # an OSError made otherwise has None

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UnreadableFileError(TeslaError):
    """The system refused to read a file now: too many open files, no permission, a share that is away.

    It says nothing about the file's contents. No OSError: what handles a missing file must not handle this.
    """

    def __init__(self, message: str, hint: str, number: int | None, path: Path) -> None:
        super().__init__(message, hint)
        self.errno = number
        self.path = path


class DamagedTrajectoryError(CorruptFileError):
    """A teacher's file is damaged. It can be trained again, to the same bits."""

    def __init__(self, message: str, hint: str, trajectory: int) -> None:
        super().__init__(message, hint)
        self.trajectory = trajectory


class NewerFormatError(UsageError):
    """A file written by a newer version: not damaged, and left unchanged."""


class BusyError(TeslaError):
    """Another process is driving this run."""


class LostHoldError(TeslaError):
    """Another process (`owner`, a description) took what this one held, or its folder was moved or deleted."""

    def __init__(self, owner: str | None, place: Path | None) -> None:
        self.owner = owner
        self.place = place
        where = f"moved to {place}" if place is not None else "deleted"
        super().__init__(f"It was taken over by {owner}." if owner is not None else f"Its folder was {where}.")


class DivergedError(TeslaError):
    """The numbers went wrong and the recovery policy is exhausted."""


class OutOfMemoryError(TeslaError):
    """Host or device has less memory than a stage needs; what was saved is intact."""

    exit_code = ExitCode.OUT_OF_MEMORY


class WorkerLostError(TeslaError):
    """Another process of this run failed or disappeared. `ended` is the rank of one that ended without a word."""

    def __init__(self, message: str, hint: str = "", ended: int | None = None) -> None:
        super().__init__(message, hint)
        self.ended = ended


class WorkersStoppedError(TeslaError):
    """Another process of this run was asked to stop, so this one stops too; `exit_code` says by which signal."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = code


def system_reason(error: OSError) -> str:
    """What the system said, for the brackets of a message; never empty and never `None`."""
    return error.strerror or str(error) or type(error).__name__


def require_utf8(path: Path, reader: str, cannot: str = "open") -> None:
    """Refuse a path of bytes that are not UTF-8, for libraries and files whose own error would not say so.

    Args:
        path: any.
        reader: the name of the library or file.
        cannot: what it cannot do with such a path.

    Raises:
        UsageError: it is one.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        message = f"{reader} cannot {cannot} {path}: its name has bytes that are not UTF-8."
        raise UsageError(message, "Rename that file or folder, or use another one.") from error


def counted(number: int, one: str, many: str = "") -> str:
    """`1 epoch`, `1,200 epochs`; `many` is the plural where it is not just an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def tesla(*words: object) -> str:
    """A command for a hint, at its end and after a colon: what a shell would split is quoted."""
    return quoted("tesla", *words)


def quoted(*words: object) -> str:
    """Words for a shell. Control characters are spelled out, as `$'\\x1b'`, which bash and zsh read back."""
    return " ".join(_spelled(word) if not word.isprintable() else shlex.quote(word) for word in map(str, words))


def _spelled(word: str) -> str:
    safe = (c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in word)
    return f"$'{''.join(safe)}'"

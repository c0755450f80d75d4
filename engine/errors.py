"""What a user is told when something goes wrong: what happened, where, and what to do next."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `tesla` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    OUT_OF_MEMORY = 12
    """As the system's own error of that meaning, ENOMEM."""
    INTERRUPTED = 130
    TERMINATED = 143


class TeslaError(Exception):
    """An error with words for the person at the keyboard; anything else that escapes is a bug.

    `message` says what happened and where, `hint` says the way out. Both are whole sentences.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class UsageError(TeslaError):
    """The request itself cannot be right: a wrong key, a wrong value, a folder that is not a workspace."""

    exit_code = ExitCode.USAGE


class SettingsError(UsageError):
    """One or more settings are wrong; the message names each key."""


class DataError(TeslaError):
    """A dataset cannot be read as it is on disk (or not be had at all)."""


class CorruptFileError(TeslaError):
    """A file of ours does not match its checksum or its format."""


class BusyError(TeslaError):
    """Somebody else drives this run."""


class DivergedError(TeslaError):
    """The numbers went wrong and the recovery policy is exhausted."""


class OutOfMemoryError(TeslaError):
    """Host or device has less memory than a stage needs; what was saved is intact."""

    exit_code = ExitCode.OUT_OF_MEMORY


class WorkerLostError(TeslaError):
    """Another process of this run failed or vanished."""


class WorkersStoppedError(TeslaError):
    """Another process of this run was asked to stop, so this one stops too; `exit_code` says by which signal."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = code

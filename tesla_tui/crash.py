"""Unexpected errors: the traceback goes to a file, and the user reads one sentence with its path.

What is expected is a `TeslaError`, memory that ran out, or a refusal of the system with a number. Anything else that
escapes a command, a thread, a screen, a request of `tesla serve` or a library's log comes here, once for the processes
of one job: workers write one file together, and the first of them reports it.
"""

import logging
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from engine.errors import ExitCode, quoted

FOLDER = "crashes"
KEPT = 50
"""Files kept in the folder; the oldest are removed."""
PLACES: tuple[Callable[[], Path], ...] = (
    lambda: platformdirs.user_log_path("tesla") / FOLDER,
    lambda: Path(tempfile.gettempdir()),
)
"""Where the files go; the next one if that cannot be written."""
SECRET = "--token"
"""Option whose value is not written down."""
_SAVED: dict[int, tuple[BaseException, Path | None]] = {}
"""Errors by their `id`, each with its file; kept, so that no other has that number."""


class EscapedError(Exception):
    """Carries an error past the command line's parser, which takes some for the end of its own input or output."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def report(error: BaseException) -> ExitCode:
    """Save an error's traceback and say so on standard error; the exit code for it."""
    path, first = save_error(error)
    if first:
        tell(summary(error), path)
    return ExitCode.INTERNAL


def save_error(error: BaseException) -> tuple[Path | None, bool]:
    """As `save`. An error that a screen has saved already has its file; the report on the terminal names it too."""
    if id(error) in _SAVED:
        return _SAVED[id(error)][1], True
    path, first = save("".join(traceback.format_exception(error)))
    _SAVED[id(error)] = error, path
    return path, first


def tell(said: str, path: Path | None) -> None:
    """One sentence on standard error."""
    message = f"Unexpected error: {said}."
    hint = "The traceback could not be saved: no folder for it is writable."
    if path is not None:
        hint = f"The traceback is in {path}; please attach that file to a bug report. Saved files are intact."
    try:
        from tesla_tui.render.errors import complain

        complain(message, hint, ExitCode.INTERNAL)
    except Exception:  # what cannot be printed nicely, because the libraries for it are what broke
        with suppress(OSError):
            os.write(2, f"Error: {message} {hint}\n".encode(errors="replace"))


def save(text: str) -> tuple[Path | None, bool]:
    """Write a traceback to a file that only this user can read.

    Returns:
        The file, None where no folder can be written; and whether this is the first report of the job.
    """
    for place in PLACES:
        with suppress(Exception):  # no home, no space, no memory
            folder = place()
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / _name()
            first = _written(path, f"{_circumstances()}\n\n{text}\n")
            _forget(folder, path)
            return path, first
    return None, True


def job_reported() -> bool:
    """Whether a worker of this process's job, on this machine, has reported an unexpected error."""
    with suppress(Exception):
        return "RANK" in os.environ and any((place() / _name()).exists() for place in PLACES)
    return False


def summary(error: BaseException) -> str:
    """An error on one line, such as `KeyError: 'loss'`."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    words = lines[0].rstrip(".")[:300] if lines else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


@contextmanager
def caught_everywhere(explain: Callable[[BaseException], int]) -> Iterator[list[int]]:
    """Report what Python would only print as a traceback: errors of threads, of destructors, in libraries' logs.

    Args:
        explain: reports an error, expected or not; its exit code.

    Yields:
        Exit codes of the errors so far, without those of destructors: the command has its result in spite of these.
    """
    codes: list[int] = []

    def of_thread(found: "threading.ExceptHookArgs") -> None:
        if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
            codes.append(explain(found.exc_value))

    def of_destructor(found: "sys.UnraisableHookArgs") -> None:
        if found.exc_value is not None:
            explain(found.exc_value)

    before = threading.excepthook, sys.unraisablehook, logging.lastResort
    threading.excepthook, sys.unraisablehook, logging.lastResort = of_thread, of_destructor, _Log(codes)
    try:
        yield codes
    finally:
        threading.excepthook, sys.unraisablehook, logging.lastResort = before


class _Log(logging.Handler):
    """Warnings and errors of libraries that no other handler takes; a traceback among them is saved."""

    def __init__(self, codes: list[int]) -> None:
        super().__init__(logging.WARNING)
        self._codes = codes

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, OSError):  # of a server: a connection that broke
            words = record.getMessage() if error is None else f"{record.getMessage()}: {summary(error)}"
            with suppress(Exception):
                sys.stderr.write(f"{words}\n")
        else:
            self._codes.append(report(error))


def _name() -> str:
    job = os.environ.get("TORCHELASTIC_RUN_ID") if "RANK" in os.environ else None
    if job is not None:  # the agent that started the workers is the parent of all of them
        return f"tesla-crash-job-{os.getppid()}-{''.join(filter(str.isalnum, job))[:32]}.txt"
    return f"tesla-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"


def _written(path: Path, text: str) -> bool:
    """Create the file, or append to that of another worker; whether it was created."""
    # Several of one process within a second share a file, too.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor, first = os.open(path, flags | os.O_EXCL, 0o600), True
    except FileExistsError:
        descriptor, first = os.open(path, flags), False
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return first


def _forget(folder: Path, kept: Path) -> None:
    with suppress(OSError):
        old = sorted(folder.glob("tesla-crash-*.txt"), key=lambda path: path.stat().st_mtime)
        for path in old[:-KEPT]:
            if path != kept:
                path.unlink()


def _circumstances() -> str:
    from engine import __version__

    torch = getattr(sys.modules.get("torch"), "__version__", None)
    rank = os.environ.get("RANK")
    lines = [
        f"tesla {__version__}, Python {platform.python_version()}{f', PyTorch {torch}' if torch else ''}, "
        f"{platform.platform()}",
        f"{datetime.now(UTC).isoformat(timespec='seconds')}, process {os.getpid()}{f', worker {rank}' if rank else ''}",
        f"command: {quoted('tesla', *_without_secrets(sys.argv[1:]))}",
    ]
    with suppress(OSError):
        lines.append(f"folder: {Path.cwd()}")
    return "\n".join(lines)


def _without_secrets(words: list[str]) -> Iterator[str]:
    hide = False
    for word in words:
        name, equals, _ = word.partition("=")
        yield "..." if hide else f"{name}=..." if equals and name == SECRET else word
        hide = word == SECRET

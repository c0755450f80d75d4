"""Which of several processes of one run reports an error, so that it is reported once."""

import os

from engine.errors import ExitCode, TeslaError, WorkerLostError
from engine.runtime.parent import parent_ended

LAUNCHER = "TESLA_LAUNCHER"
"""Set in the environment of workers that `tesla run --workers` started: it reports how they ended."""


def is_first_here() -> bool:
    """Whether this is the only process, or the first worker on its host."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def has_launcher() -> bool:
    """Whether this is a worker of `tesla run --workers`, and that still runs."""
    return LAUNCHER in os.environ and not parent_ended()


def reports(error: TeslaError) -> bool:
    """Whether this process reports the error.

    The first worker on each host does. A lost worker is reported once in the job: one that has ended by the launcher,
    which knows the signal, if it is ours; else by the first of those that are left.
    """
    if not isinstance(error, WorkerLostError):
        return is_first_here()
    if error.ended is not None and has_launcher():
        return False
    return os.environ.get("RANK", "0") == ("1" if error.ended == 0 else "0")


def code_of(error: TeslaError) -> ExitCode:
    """The exit code. A worker that says nothing of a loss tells the launcher so: nothing but a stop."""
    silent = isinstance(error, WorkerLostError) and not reports(error) and has_launcher()
    return ExitCode.TERMINATED if silent else error.exit_code

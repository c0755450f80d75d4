"""Driving a run: its lease, which one process holds while the others watch."""

import time
from collections.abc import Generator
from types import TracebackType
from typing import Self

from engine.errors import BusyError, LostHoldError, UsageError, tesla
from engine.events import Event, Progress
from engine.runs.liveness import DRIVER, LOCK, run_lease
from engine.runs.run import Run, nobody_else
from engine.storage.atomic import disk, set_aside
from engine.storage.beats import LATE
from engine.storage.lock import LeaseLock
from engine.storage.reading import is_folder


def acquire_run(run: Run) -> Generator[Event, None, "RunLease"]:
    """Become the run's driver; other processes may only watch. Use as `yield from`; a context manager comes back.

    Raises:
        BusyError: another process drives it; the message says which, and since when.
    """
    disk.make_folder(run.folder)
    for name in (LOCK, DRIVER):
        if is_folder(run.folder / name):
            set_aside(run.folder / name)
    lease = run_lease(run)
    started = time.monotonic()
    for owner in lease.attempts():
        detail = "waiting for the run's lock"
        if lease.watching:
            detail = f"waiting up to {LATE:.0f} s for a heartbeat of {owner.words}: {time.monotonic() - started:.0f} s"
        yield Progress(stage="data", done=1, total=1, unit="datasets", detail=detail)
    if not lease.held:
        raise BusyError(
            f"The run {run.name} is already being driven by {owner.words}.",
            f"Watch it with: {tesla('tui', run.folder.parents[1], '--run', run.name)}",
        )
    return RunLease(run, lease)


class RunLease:
    """The lock of a run, held while a block runs; the run's own writes are refused once it is lost."""

    def __init__(self, run: Run, lease: LeaseLock) -> None:
        self._run = run
        self._lease = lease
        self._checked = 0.0

    def __enter__(self) -> Self:
        self._run.guard = self.check
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.guard = nobody_else
        self._lease.release()

    def stands(self) -> bool:
        """Whether this process is still the run's driver by its record: asked before each beat, it raises nothing."""
        return self._lease.stands

    def glance(self) -> None:
        """Check at most once a second."""
        if time.monotonic() - self._checked > 1:
            self.check()

    def check(self) -> None:
        """Refuse to write to a run that this process no longer drives.

        Raises:
            BusyError: another process drives it.
            UsageError: its folder was renamed or deleted.
        """
        self._checked = time.monotonic()
        try:
            self._lease.check()
        except LostHoldError as lost:
            name, workspace = self._run.name, self._run.folder.parents[1]
            if lost.owner is not None:
                raise BusyError(
                    f"The run {name} was taken over by {lost.owner}, which saw no heartbeat of this process.",
                    f"Nothing has been written since. Watch it with: {tesla('tui', workspace, '--run', name)}",
                ) from lost
            if lost.place is not None and lost.place != self._run.folder:
                raise UsageError(
                    f"The folder of the run {name} was moved to {lost.place} while the run was driven.",
                    f"It is saved as of its last checkpoint. Resume with: "
                    f"{tesla('run', lost.place.parents[1], '--run', lost.place.name)}",
                ) from lost
            raise UsageError(
                f"The folder of the run {name} was deleted while the run was driven.", "Nothing more is written."
            ) from lost

"""Following a run's journal for other programs, at once or while it is driven: what all of them have in common.

Everything is read from the run's files, as the live screens do; its driver does not notice.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import platformdirs
from filelock import FileLock, Timeout
from PIL import Image

from engine.errors import BusyError, CorruptFileError, TeslaError, UsageError
from engine.events import (
    CheckpointSaved,
    Event,
    Progress,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
)  # fmt: skip
from engine.runs.history import RunHistory
from engine.runs.journal import Entry, read_journal
from engine.runs.liveness import is_driven, liveness
from engine.runs.preview_frames import enlarged, frame_iterations, frame_path, image_grid, read_frame
from engine.runs.run import Run
from engine.runs.status import read_state
from engine.storage.atomic import disk
from engine.tools.tracking.series import Number, lost_lines, numbers_of

LOOK = 2.0
"""Seconds between two reads of a run that is being driven."""
LINES = 500
"""Journal lines between two reports of progress."""
STATES: dict[type[Event], str] = {
    RunStarted: "running", RunPaused: "paused", RunResumed: "running", RunStopped: "stopped", RunFailed: "failed",
    RunFinished: "finished",
}  # fmt: skip
"""The state of a run from such a line on; names as in `RunStatus.state`."""
SHOWN = (CheckpointSaved, RunStopped, RunFailed, RunFinished)
"""Lines at which a tracker gets the newest images."""


@dataclass(frozen=True, eq=False)
class Picture:
    """The images of one iteration, as people look at them."""

    iteration: int
    image: Image.Image
    time: float
    """When the run wrote it, seconds since 1970."""


def read_picture(path: Path) -> Picture | None:
    """A frame of a run's film as a picture; None if it was thinned out meanwhile, or is damaged."""
    with suppress(CorruptFileError, FileNotFoundError):
        frame = read_frame(path)
        image = enlarged(image_grid(frame.pixels, frame.shown), frame.pixels.shape[1])
        return Picture(frame.iteration, image, path.stat().st_mtime)
    return None


@dataclass(frozen=True)
class Row:
    """What one line of the journal has for a tracker."""

    line: int
    """Its number among the readable lines, from 1. It never changes, so a tracker can resume after it."""
    entry: Entry
    back: int | None
    """The iteration the run went back to, None if it did not: what was beyond is repeated."""
    numbers: tuple[Number, ...]
    state: str
    """The state of the run from here on; empty if the line does not change it."""
    frame: Path | None
    """Images that no earlier row had."""

    def picture(self) -> Picture | None:
        """Those images."""
        return None if self.frame is None else read_picture(self.frame)

    @property
    def axis(self) -> tuple[str, int]:
        """What the numbers are plotted over: `iteration`, or `epoch` of a teacher, and its value."""
        return ("iteration" if self.numbers[0].trajectory is None else "epoch"), self.numbers[0].step


@dataclass(frozen=True)
class End:
    """Where a tracker is left."""

    state: str
    """The run's, as in `RunStatus.state`."""
    told: bool
    """A row told it. That a driver was killed, or stands still, is not in the journal."""
    line: int
    """The last one that was read."""
    time: float
    """When it was written, seconds since 1970."""


class Tracker(ABC):
    """Another program that takes the rows of one run."""

    rewinds: ClassVar[bool] = False
    """It can drop what it has beyond an iteration (`Row.back`). Others never get rows that are lost already."""
    lines = 0
    """Lines of the journal that it has from an earlier time; it gets those after."""
    points = 0
    """Numbers and images written."""
    where = ""
    """Where they are, for a sentence."""
    view = ""
    """How to see them, as a sentence; empty if that is clear."""

    @abstractmethod
    def take(self, row: Row) -> None:
        """Write a row."""

    def flush(self, run: Run) -> None:  # noqa: B027 - most have nothing to do
        """All rows of this look at the run were taken."""

    @abstractmethod
    def close(self, end: "End") -> None:
        """No more rows follow."""


def follow(run: Run, trackers: Sequence[Tracker], *, once: bool = False) -> Generator[Event, None, None]:
    """Give every line of a run's journal to trackers, for as long as it is driven. Closing it closes them.

    Args:
        run: an existing run.
        trackers: open ones.
        once: do not wait for more.
    """
    history, offset, shown, told = RunHistory(), 0, -1, ""
    total = run.frozen().settings.distill.iterations
    lost = set() if all(t.rewinds for t in trackers) else lost_lines(e for e, _ in read_journal(run.journal_file))
    with ExitStack() as closing:
        for tracker in trackers:
            closing.callback(lambda to: to.close(_end(run, history, told)), tracker)
        while True:
            driven = is_driven(run) and not once  # checked before reading: what its driver wrote last is read below
            for lines, (entry, after) in enumerate(read_journal(run.journal_file, offset), 1):
                back, offset = history.add(entry), after
                shown = shown if back is None else min(shown, back)
                frame = _newest_frame(run, history.iteration, shown) if isinstance(entry.event, SHOWN) else None
                shown = shown if frame is None else frame
                told = STATES.get(type(entry.event), told)
                row = Row(
                    history.events, entry, back, tuple(numbers_of(entry)), STATES.get(type(entry.event), ""),
                    None if frame is None else frame_path(run.film, frame),
                )  # fmt: skip
                for tracker in trackers:
                    if row.line > tracker.lines and (tracker.rewinds or row.line not in lost):
                        tracker.take(row)
                if lines % LINES == 0:
                    yield _progress(trackers, history, total)
            for tracker in trackers:
                tracker.flush(run)
            yield _progress(trackers, history, total)
            if not driven:
                return
            time.sleep(LOOK)


def missing(package: str) -> UsageError:
    """The error where an optional package is not installed."""
    return UsageError(
        f"The package {package} is not installed.",
        f"Install it with: pip install 'tesla-tui[{package}]' - or use --csv, which needs no package.",
    )


def failed(service: str, error: Exception, hint: str = "") -> TeslaError:
    """The error where a service refuses, or is out of reach."""
    words = f"{hint} The run is not affected. Nothing is lost: the same command sends what is missing."
    return TeslaError(f"{service} failed: {str(error).strip().rstrip('.')}.", words.strip())


@dataclass(frozen=True)
class Named:
    """What a service keeps a run under."""

    key: str
    """Tells it from others of its name, on any machine: when its first driver started, in hexadecimal."""
    title: str
    """Its workspace and its name."""
    config: dict[str, Any]
    """Its settings, dotted key to plain value."""


@contextmanager
def service(package: str, project: str, run: Run) -> Iterator[Named]:
    """What a project of a service keeps a run under, with `only_one` for it among the processes of this user."""
    first = next((entry.time for entry, _ in read_journal(run.journal_file)), 0.0)
    named = Named(f"{round(first * 1000):x}", f"{run.folder.parents[1].name}/{run.name}", run.frozen().flat())
    lock = platformdirs.user_state_path("tesla") / "log" / f"{quote(f'{package} {project} {named.key}', safe='')}.lock"
    with only_one(lock, f"{run.name} to the project {project} with {package}", "Stop it first."):
        yield named


@contextmanager
def only_one(path: Path, what: str, hint: str) -> Iterator[None]:
    """Refuse two `tesla log` that write to the same place.

    Raises:
        BusyError: another process has the lock `path`.
    """
    disk.make_folder(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(f"Another `tesla log` writes {what}.", hint) from error
    try:
        yield
    finally:
        lock.release()


def _newest_frame(run: Run, until: int, after: int) -> int | None:
    return max((at for at in frame_iterations(run.film) if after < at <= until), default=None)


def _end(run: Run, history: RunHistory, told: str) -> End:
    state = read_state(run, history, liveness(run))
    return End(state, state == told, history.events, history.drives[-1][1] if history.drives else run.last_change)


def _progress(trackers: Sequence[Tracker], history: RunHistory, total: int) -> Progress:
    return Progress(
        stage="log", done=min(history.iteration, total), total=total, unit="iterations",
        detail=f"{sum(tracker.points for tracker in trackers):,} points",
    )  # fmt: skip

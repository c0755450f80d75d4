"""What a driver records: every event of its session in the run's journal, and how it ended."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from engine.errors import LostHoldError, TeslaError, WorkersStoppedError
from engine.events import Event, Progress, RunFailed, RunPaused, RunResumed, RunStopped
from engine.runs.heartbeat import HeartbeatWriter
from engine.runs.journal import JournalWriter
from engine.runs.lease import RunLease
from engine.runs.run import Run
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.peak_memory import PeakMemory
from engine.session.control import Control

Events = Generator[Event, None, None]

STILL = 0.1
"""Seconds between two looks at the requests of a paused session."""


class Recorder:
    """Appends events to the journal and reports them to the heartbeat. Created by `recording`."""

    def __init__(self, journal: JournalWriter, held: RunLease, heart: HeartbeatWriter) -> None:
        self._journal = journal
        self._held = held
        self._heart = heart

    def record(self, event: Event) -> Event:
        """Record an event, and return it."""
        self._held.glance()
        self._journal.append(event)
        self._heart.note(event)
        return event

    def recorded(self, stages: Events, control: Control, ranks: Ranks) -> Events:
        """The events of stages, each recorded before it is yielded. On exit the stages save their state first.

        While a pause is requested, nothing happens between two events.
        """
        try:
            for event in stages:
                yield self.record(event)
                ranks.check()
                if control.paused:
                    yield from self._paused(control)
        except OSError:  # a disk that refuses the journal may refuse the state as well; the first error is reported
            with suppress(TeslaError, OSError):
                stages.close()
            raise
        finally:
            stages.close()

    def _paused(self, control: Control) -> Events:
        """Wait until the pause ends or another request comes first."""
        begun = time.monotonic()
        yield self.record(RunPaused())
        try:
            while control.paused:
                time.sleep(STILL)
                yield Progress(stage="", done=0, total=0, unit="", detail="paused")
        finally:
            resumed = self.record(RunResumed(seconds=time.monotonic() - begun))
        yield resumed


@contextmanager
def recording(run: Run, held: RunLease, heart: HeartbeatWriter, peak: Callable[[], PeakMemory]) -> Iterator[Recorder]:
    """A recorder for the duration of a session. An early end of the session is recorded as its last event.

    Args:
        run: whose journal it is.
        held: the lease of its driver.
        heart: takes the progress.
        peak: the driver's peak memory so far.

    Raises:
        BusyError, UsageError: instead of an OSError, if the run's folder was taken away meanwhile.
    """
    journal = JournalWriter(run.journal_file)
    try:
        yield Recorder(journal, held, heart)
    except (GeneratorExit, WorkersStoppedError) as stop:
        reason = stop.message if isinstance(stop, WorkersStoppedError) else "asked to stop"
        saved = max(run.checkpoints(), default=None)
        journal.append(RunStopped(reason=reason, iteration=saved, **asdict(peak())))
        raise
    except BaseException as error:
        if isinstance(error, OSError):
            held.check()  # gives the better message if the folder is missing
        if not isinstance(error.__cause__, LostHoldError):  # else another process has the run now
            message = str(error) if isinstance(error, TeslaError) else f"{type(error).__name__}: {error}"
            with suppress(OSError):  # the error may be that nothing can be written
                journal.append(RunFailed(message=message))
        raise

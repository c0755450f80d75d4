"""A session chains the stages: data -> teachers -> distillation with evaluations -> the test. The main loop is `drive`.

Each function here is a generator of events; whoever iterates it renders, and stops it by closing it.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import suppress

from engine.errors import (
    LostHoldError,
    TeslaError,
    UsageError,
    WorkersStoppedError,
)
from engine.events import (
    Event,
    Notice,
    Progress,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    stage_events,
)
from engine.methods.method import unread
from engine.methods.registry import method_of
from engine.runs.heartbeat import HeartbeatWriter, crash_description, heartbeat
from engine.runs.journal import JournalWriter
from engine.runs.recovery import clean_up
from engine.runs.run import Run, checkpoint_to_use
from engine.runs.workspace import Workspace, acquire_run
from engine.runtime.device import environment
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.session.control import Control
from engine.session.evaluations import final_test
from engine.session.memory_hints import explain_out_of_memory
from engine.session.open_task import check_distils, open_task
from engine.session.stages import stages
from engine.settings import EffectiveSettings, Settings
from engine.training.teachers import train_teachers

Events = Generator[Event, None, None]


STILL = 0.1
"""Seconds between two looks at the wishes of a paused session."""


def drive(
    workspace: Workspace,
    run: Run,
    effective: EffectiveSettings,
    control: Control | None = None,
    ranks: Ranks = ALONE,
) -> Events:
    """Do whatever is missing of a run, from data to the test accuracy. Closing the generator saves and stops.

    `control` takes wishes from any thread: pause, save now, evaluate now.

    Nothing of the run is written before its settings and data are known to be good. Of several ranks the first drives
    and the others `assist`.

    Raises:
        BusyError: somebody drives the run already.
        WorkerLostError, WorkersStoppedError: another rank is gone; the state is saved.
        TeslaError: see the stages.
    """
    check_distils(workspace, run, effective.settings)
    if run.exists:
        run.check(effective)
    control = control or Control()
    early: list[Event] = []
    for notice in _told(effective):
        early.append(notice)
        yield notice
    opening = explain_out_of_memory(open_task(workspace, effective.settings, ranks), None)
    while True:
        try:
            event = next(opening)
        except StopIteration as end:
            task, buffer = end.value
            break
        if event.journaled:
            early.append(event)  # there is no journal before the run is known to be possible
        yield event
    workspace.check_links(*run.folders, buffer.folder)
    hold = yield from acquire_run(run)
    vanished = crash_description(run.heartbeat_file)  # before this one's takes its place
    with hold as held, heartbeat(run.heartbeat_file) as heart:
        run.check_formats()
        buffer.check_formats()
        mended = [run.settings_damage] if run.exists and run.settings_damage else []
        run.freeze(effective)
        mended += clean_up(run)
        notices = [Notice(level="warning", message=words) for words in (*mended, vanished) if words]
        journal = JournalWriter(run.journal_file)
        begun = time.monotonic()
        resumed = max(run.checkpoints(), default=None)
        started = RunStarted(
            run=run.name,
            resumed_from=resumed,
            settings=effective.flat(),
            environment={**environment(task.device), "workers": ranks.size},
        )
        for event in (started, *early, *notices):
            journal.append(event)
        yield started
        yield from notices
        work = explain_out_of_memory(stages(task, buffer, run, control), task)
        try:
            for event in work:
                held.glance()
                journal.append(event)
                heart.note(event)
                yield event
                ranks.check()
                if control.paused:
                    yield from _standing(control, journal, heart)
        except GeneratorExit:
            work.close()  # saves the stage's state
            journal.append(RunStopped(reason="asked to stop", iteration=max(run.checkpoints(), default=None)))
            raise
        except WorkersStoppedError as stop:
            work.close()
            journal.append(RunStopped(reason=stop.message, iteration=max(run.checkpoints(), default=None)))
            raise
        except TeslaError as error:
            work.close()
            if not isinstance(error.__cause__, LostHoldError):  # else it is no longer ours to write to
                with suppress(OSError):  # the error itself may be that nothing can be written
                    journal.append(RunFailed(message=str(error)))
            raise
        except OSError as error:
            with suppress(TeslaError, OSError):
                work.close()
            held.check()  # says it better if the folder is gone
            with suppress(OSError):
                journal.append(RunFailed(message=f"{type(error).__name__}: {error}"))
            raise
        except BaseException as error:
            with suppress(OSError):
                journal.append(RunFailed(message=f"{type(error).__name__}: {error}"))
            raise
        finished = RunFinished(seconds=time.monotonic() - begun)
        journal.append(finished)
        yield finished


def assist(workspace: Workspace, run: Run, effective: EffectiveSettings, ranks: Ranks) -> Events:
    """Share the work of a run that the first rank drives: nothing is written but teachers.

    Raises:
        WorkerLostError, WorkersStoppedError: another rank is gone.
        TeslaError: see the stages.
    """
    task, buffer = yield from explain_out_of_memory(open_task(workspace, effective.settings, ranks), None)
    workspace.check_links(*run.folders, buffer.folder)
    work = explain_out_of_memory(stages(task, buffer, run, Control()), task)
    try:
        for event in work:
            yield event
            ranks.check()
    finally:
        work.close()


def _standing(control: Control, journal: JournalWriter, heart: HeartbeatWriter) -> Events:
    """Stand still until the wish to pause is gone or another is to be granted first."""
    begun = time.monotonic()
    paused = RunPaused()
    journal.append(paused)
    heart.note(paused)
    yield paused
    try:
        while control.paused:
            time.sleep(STILL)
            yield Progress(stage="", done=0, total=0, unit="", detail="paused")
    finally:
        resumed = RunResumed(seconds=time.monotonic() - begun)
        journal.append(resumed)
        heart.note(resumed)
    yield resumed


def teach(workspace: Workspace, settings: Settings) -> Events:
    """Only data and teachers; any number of processes may do this for one workspace at the same time."""
    if not settings.needs_teachers:
        raise UsageError(
            f"distill.method = {settings.distill.method} needs no teachers.",
            "They are trained for tesla, mtt and datm; `tesla run` does what this method needs.",
        )
    task, buffer = yield from explain_out_of_memory(open_task(workspace, settings), None)
    workspace.check_links(buffer.folder)
    for words in buffer.open():
        yield Notice(level="warning", message=words)
    yield from explain_out_of_memory(stage_events("teachers", train_teachers(task, buffer)), task)


def evaluate_run(
    workspace: Workspace, run: Run, settings: Settings, iteration: int | None, networks: Sequence[str]
) -> Events:
    """Measure a run's selected (or a given) checkpoint on the test images, with any networks.

    `settings` are the protocol; which checkpoint is selected is up to the run's own.
    """
    run.check_formats()
    task, buffer = yield from explain_out_of_memory(open_task(workspace, settings), None)
    workspace.check_links(*run.folders)
    chosen = checkpoint_to_use(run, run.frozen().settings, iteration)
    yield from explain_out_of_memory(stage_events("evaluation", final_test(task, buffer, run, chosen, networks)), task)


def _told(effective: EffectiveSettings) -> Generator[Notice, None, None]:
    """What somebody has set and this method does not read."""
    method = method_of(effective.settings)
    keys = unread(method, effective)
    if keys:
        words = f"distill.method = {method.name} does not read {', '.join(keys)}."
        yield Notice(level="warning", message=words)

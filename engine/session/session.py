"""Entry points of a session: drive a run, assist another process that drives it, train teachers, evaluate.

Each function is a generator of events; the caller renders them, and stops it by closing it. The main loop
itself is in `engine.session.loop`.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import asdict
from functools import partial

from engine.errors import UsageError
from engine.events import Event, Notice, RunFinished, RunStarted, stage_events
from engine.methods.method import unread
from engine.methods.registry import method_of
from engine.runs.heartbeat import crash_description, heartbeat
from engine.runs.history import read_history
from engine.runs.judgement import outcome_words
from engine.runs.lease import acquire_run
from engine.runs.recovery import clean_up
from engine.runs.run import Run
from engine.runs.same_data import check_data
from engine.runs.selection import checkpoint_to_use, read_outcomes
from engine.runs.workspace import Workspace
from engine.runtime.determinism import with_operators
from engine.runtime.device import environment
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.runtime.peak_memory import forget_peak, peak_memory
from engine.session.control import Control
from engine.session.evaluations import final_test
from engine.session.loop import run_stages
from engine.session.memory_hints import explain_out_of_memory
from engine.session.open_task import check_distils, open_finished, open_task, open_teachers
from engine.session.recorder import recording
from engine.session.remarks import changed_environment, with_remarks
from engine.settings import EffectiveSettings, Settings
from engine.training.task import Task
from engine.training.teacher_accuracy import teacher_stage
from engine.training.teacher_buffer import TeacherBuffer

Events = Generator[Event, None, None]


def drive(
    workspace: Workspace,
    run: Run,
    effective: EffectiveSettings,
    control: Control | None = None,
    ranks: Ranks = ALONE,
) -> Events:
    """Do what a run still lacks, from data to the test accuracy. Closing the generator saves and stops.

    Nothing of the run is written before its settings and data are known to be good. Of several ranks the first drives
    and the others `assist`.

    Args:
        workspace: of the run.
        run: existing or new.
        effective: its settings.
        control: takes requests from any thread: pause, save now, evaluate now.
        ranks: this process among those that share the run.

    Raises:
        BusyError: another process drives the run.
        WorkerLostError, WorkersStoppedError: another rank died; the state is saved.
        TeslaError: see the stages.
    """
    check_distils(workspace, run, effective.settings)
    if run.exists:
        run.check(effective)
    control = control or Control()
    early: list[Event] = []  # there is no journal before the run is known to be possible
    task, buffer = yield from _opened(workspace, effective, ranks, early)
    check_data(run, task.dataset.classes, task.dataset.fingerprint)
    workspace.check_links(*run.folders, buffer.folder)
    forget_peak(task.device)  # of another run of this process
    hold = yield from acquire_run(run)
    crash = crash_description(run.heartbeat_file)  # before this driver's heartbeat replaces it
    with hold as held, heartbeat(run.heartbeat_file, held.stands) as heart:
        repaired = _prepared(run, buffer, effective)
        here = {**environment(task.device), "workers": ranks.size}
        changed = changed_environment(read_history(run).environment, here)
        warnings = filter(None, (*repaired, crash, workspace.keep_report(task.dataset, effective), changed))
        notices = [Notice(level="warning", message=words) for words in warnings]
        started = RunStarted(
            run=run.name,
            resumed_from=max(run.checkpoints(), default=None),
            settings=effective.flat(),
            environment=here,
        )
        begun = time.monotonic()
        peak = partial(peak_memory, task.device)
        with recording(run, held, heart, peak) as recorder:
            for event in (started, *early, *notices):
                recorder.record(event)
            yield started
            yield from notices
            stages = with_operators(run_stages(task, buffer, run, control))
            stages = with_remarks(run, effective.settings, stages)
            stages = explain_out_of_memory(stages, task)
            yield from recorder.recorded(stages, control, ranks)
            outcome = outcome_words(read_outcomes(run, effective.settings))
            seconds = time.monotonic() - begun
            finished = recorder.record(RunFinished(seconds=seconds, outcome=outcome, **asdict(peak())))
        yield finished  # outside: closing the generator here must not record a stop


def assist(workspace: Workspace, run: Run, effective: EffectiveSettings, ranks: Ranks) -> Events:
    """Share the work of a run that the first rank drives: nothing is written but teachers.

    Raises:
        WorkerLostError, WorkersStoppedError: another rank died.
        TeslaError: see the stages.
    """
    task, buffer = yield from explain_out_of_memory(open_task(workspace, effective.settings, ranks), None)
    workspace.check_links(*run.folders, buffer.folder)
    stages = explain_out_of_memory(run_stages(task, buffer, run, Control()), task)
    try:
        for event in stages:
            yield event
            ranks.check()
    finally:
        stages.close()


def teach(workspace: Workspace, settings: Settings) -> Events:
    """Only data and teachers; any number of processes may do this for one workspace at the same time."""
    if not settings.needs_teachers:
        raise UsageError(
            f"distill.method = {settings.distill.method} needs no teachers.",
            "`tesla run` does what this method needs.",
        )
    task, buffer = yield from explain_out_of_memory(open_teachers(workspace, settings), None)
    workspace.check_links(buffer.folder)
    for words in buffer.open():
        yield Notice(level="warning", message=words)
    stages = with_operators(stage_events("teachers", teacher_stage(task, buffer)))
    yield from explain_out_of_memory(stages, task)


def evaluate_run(
    workspace: Workspace, run: Run, settings: Settings, iteration: int | None, networks: Sequence[str]
) -> Events:
    """Measure a run's selected (or a given) checkpoint on the test images, with any networks.

    `settings` are the protocol; which checkpoint is selected is up to the run's own.
    """
    run.check_formats()
    task, buffer = yield from explain_out_of_memory(open_finished(workspace, settings), None)
    check_data(run, task.dataset.classes, task.dataset.fingerprint)
    workspace.check_links(*run.folders)
    chosen = checkpoint_to_use(run, run.frozen().settings, iteration)
    testing = with_operators(stage_events("evaluation", final_test(task, buffer, run, chosen, networks)))
    yield from explain_out_of_memory(testing, task)


def _opened(
    workspace: Workspace, effective: EffectiveSettings, ranks: Ranks, early: list[Event]
) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Settings and data, known to be good. Events for the journal are collected in `early`."""
    method = method_of(effective.settings)
    if keys := unread(method, effective):
        words = f"distill.method = {method.name} does not read {', '.join(keys)}."
        early.append(Notice(level="warning", message=words))
        yield early[-1]
    opening = explain_out_of_memory(open_task(workspace, effective.settings, ranks), None)
    while True:
        try:
            event = next(opening)
        except StopIteration as end:
            opened: tuple[Task, TeacherBuffer] = end.value
            return opened
        if event.journaled:
            early.append(event)
        yield event


def _prepared(run: Run, buffer: TeacherBuffer, effective: EffectiveSettings) -> list[str]:
    """Repair the run's files, as only its driver may; messages about what was repaired."""
    run.check_formats()
    buffer.check_formats()
    damage = [run.settings_damage] if run.exists and run.settings_damage else []
    run.freeze(effective)
    return damage + clean_up(run)

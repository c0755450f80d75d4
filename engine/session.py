"""A session chains the stages: data -> teachers -> distillation with evaluations -> the test. The main loop is `drive`.

Each function here is a generator of events; whoever iterates it renders, and stops it by closing it.
"""

import json
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from engine.assessments import baseline, evaluation_known, final_test, held_out
from engine.background import beside
from engine.buffers import TeacherBuffer
from engine.compute import configure, environment
from engine.control import Control
from engine.data import ResidentImages
from engine.data.dataset import Classes, Pixels
from engine.errors import (
    CorruptFileError,
    DamagedTrajectoryError,
    LostHoldError,
    TeslaError,
    UsageError,
    WorkersStoppedError,
)
from engine.events import (
    CheckpointSaved,
    DataReady,
    Event,
    Notice,
    Progress,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    timed,
    told,
)
from engine.film import frame_path, frame_problem
from engine.journal import JournalWriter
from engine.method import State, unread
from engine.methods import method_of
from engine.parallel.ranks import ALONE, Ranks
from engine.preview import Camera
from engine.pulse import Heart, beating, vanished_words
from engine.recovery import newest_state, set_checkpoint_aside, tidy
from engine.room import bytes_in, check_room, checkpoints_bytes
from engine.run import Run, checkpoint_to_use, selected_iteration
from engine.selection import check_ipc
from engine.settings import EffectiveSettings, Settings
from engine.sharing import check_shared
from engine.shortage import with_words
from engine.task import DTYPES, Split, Task
from engine.teachers import train_teachers
from engine.training import load_optimisers
from engine.workspace import Workspace, taking

Events = Generator[Event, None, None]


LOADING = Progress(stage="data", done=1, total=1, unit="datasets")
"""Where a session stands when its data are there and its first stage has not begun."""

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
    opening = with_words(open_task(workspace, effective.settings, ranks), None)
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
    hold = yield from taking(run)
    vanished = vanished_words(run.pulse_file)  # before this one's takes its place
    with hold as held, beating(run.pulse_file) as heart:
        run.check_formats()
        buffer.check_formats()
        mended = [run.settings_damage] if run.exists and run.settings_damage else []
        run.freeze(effective)
        mended += tidy(run)
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
        stages = with_words(_stages(task, buffer, run, control), task)
        try:
            for event in stages:
                held.glance()
                journal.append(event)
                heart.note(event)
                yield event
                ranks.check()
                if control.paused:
                    yield from _standing(control, journal, heart)
        except GeneratorExit:
            stages.close()  # saves the stage's state
            journal.append(RunStopped(reason="asked to stop", iteration=max(run.checkpoints(), default=None)))
            raise
        except WorkersStoppedError as stop:
            stages.close()
            journal.append(RunStopped(reason=stop.message, iteration=max(run.checkpoints(), default=None)))
            raise
        except TeslaError as error:
            stages.close()
            if not isinstance(error.__cause__, LostHoldError):  # else it is no longer ours to write to
                with suppress(OSError):  # the error itself may be that nothing can be written
                    journal.append(RunFailed(message=str(error)))
            raise
        except OSError as error:
            with suppress(TeslaError, OSError):
                stages.close()
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
    task, buffer = yield from with_words(open_task(workspace, effective.settings, ranks), None)
    workspace.check_links(*run.folders, buffer.folder)
    stages = with_words(_stages(task, buffer, run, Control()), task)
    try:
        for event in stages:
            yield event
            ranks.check()
    finally:
        stages.close()


def _standing(control: Control, journal: JournalWriter, heart: Heart) -> Events:
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
            "They are trained for tesla and mtt; `tesla run` does what this method needs.",
        )
    task, buffer = yield from with_words(open_task(workspace, settings), None)
    workspace.check_links(buffer.folder)
    for words in buffer.open():
        yield Notice(level="warning", message=words)
    yield from load_optimisers(LOADING)
    yield from with_words(timed("teachers", train_teachers(task, buffer)), task)


def evaluate_run(
    workspace: Workspace, run: Run, settings: Settings, iteration: int | None, networks: Sequence[str]
) -> Events:
    """Measure a run's selected (or a given) checkpoint on the test images, with any networks."""
    run.check_formats()
    task, buffer = yield from with_words(open_task(workspace, settings), None)
    workspace.check_links(*run.folders)
    chosen = checkpoint_to_use(run, settings, iteration)
    yield from load_optimisers(LOADING)
    yield from with_words(timed("evaluation", final_test(task, buffer, run, chosen, networks)), task)


def open_task(
    workspace: Workspace, settings: Settings, ranks: Ranks = ALONE
) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Data and buffer of a workspace under given settings, on the device. Use as `yield from`."""
    device = configure(settings.compute, ranks.place)
    opened = yield from workspace.open_dataset(settings)
    dataset, kept, held = opened.dataset, opened.kept, opened.held
    space = opened.space.to(device, DTYPES[settings.compute.dtype])

    def part(pixels: Pixels, labels: Classes, index: Classes) -> Split:
        return Split(ResidentImages(pixels, index, space, device), torch.from_numpy(labels[index]))

    def parts() -> tuple[Split, Split, Split]:
        return (
            part(dataset.train_images, dataset.train_labels, kept),
            part(dataset.train_images, dataset.train_labels, held),
            part(dataset.test_images, dataset.test_labels, np.arange(len(dataset.test_labels))),
        )

    at = Progress(stage="data", done=1, total=1, unit="datasets")
    train, holdout, test = yield from told(beside(parts), at, "loading the images")
    task = Task(
        settings=settings, dataset=dataset, space=space, device=device,
        train=train, holdout=holdout, test=test, ranks=ranks,
    )  # fmt: skip
    _check(task)
    identity = workspace.buffer_identity(settings, dataset)
    buffer = TeacherBuffer(workspace.buffer_folder(settings, identity), identity)
    _same_everywhere(ranks, {"teachers": identity, "settings": settings.model_dump(mode="json")})
    yield DataReady(
        name=dataset.name, classes=task.classes, channels=dataset.channels, resolution=dataset.resolution,
        train=len(task.train), holdout=len(task.holdout), test=len(task.test), names=list(dataset.classes),
    )  # fmt: skip
    return task, buffer


def _check(task: Task) -> None:
    """Settings that only the data can prove wrong."""
    settings = task.settings
    check_ipc(task)
    if task.ranks.size > 1 and not method_of(settings).shares:
        raise UsageError(
            f"Several workers cannot share a run with distill.method = {settings.distill.method}.", "Take one worker."
        )
    if not settings.needs_teachers:
        for name in (*(settings.evaluate.networks or ()), None):
            task.fresh_network(0, name)
        return
    count = task.classes * settings.distill.ipc
    batch = settings.distill.batch
    if batch != "full" and batch > count:
        raise UsageError(
            f"distill.batch = {batch} is more than the {count} synthetic images there are "
            f"({task.classes} classes x IPC {settings.distill.ipc}).",
            "Set distill.batch = full, or a smaller number.",
        )
    if settings.teachers.batch > len(task.train):
        raise UsageError(
            f"teachers.batch = {settings.teachers.batch} is more than the {len(task.train)} training images.",
            "Set a smaller teachers.batch.",
        )
    for name in settings.evaluate.networks or ():
        task.fresh_network(0, name)
    task.flat_network()
    check_shared(task)


def check_distils(workspace: Workspace, run: Run, settings: Settings) -> None:
    """Refuse to distil what was imported: how it was made, and with which teachers, is not known."""
    if run.origin is not None:
        raise UsageError(
            f"The run {run.name} was {run.origin.words}; it is not distilled further.",
            f"Measure it with: tesla evaluate {workspace.folder} --run {run.name}",
        )
    if settings.labels.kind == "given":
        raise UsageError(
            "labels.kind = given is for sets that come with labels, from `tesla import-images`.",
            "To distil choose hard, target, last or learned.",
        )


def _same_everywhere(ranks: Ranks, mine: dict[str, Any]) -> None:
    mine = json.loads(json.dumps(mine))
    theirs = ranks.led(mine)
    differing = [name for name in mine if mine[name] != theirs[name]]
    if differing:
        raise UsageError(
            f"Worker {ranks.rank} has other {' and '.join(differing)} than worker 0.",
            "All workers must see the same workspace and dataset, and be started with the same options.",
        )


def _told(effective: EffectiveSettings) -> Generator[Notice, None, None]:
    """What somebody has set and this method does not read."""
    method = method_of(effective.settings)
    keys = unread(method, effective)
    if keys:
        words = f"distill.method = {method.name} does not read {', '.join(keys)}."
        yield Notice(level="warning", message=words)


def _stages(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    yield from load_optimisers(LOADING)
    if not task.settings.needs_teachers:
        yield from _matched(task, buffer, run, control)
        return
    for words in buffer.open():
        yield Notice(level="warning", message=words)
    again: set[int] = set()
    while True:
        try:
            yield from timed("teachers", train_teachers(task, buffer))
            yield from _matched(task, buffer, run, control)
            return
        except DamagedTrajectoryError as error:
            # The state is saved. Teachers are trained again to the same bits, and the run goes on where it was.
            aside = buffer.set_aside(error.trajectory)
            if error.trajectory in again or task.ranks.size > 1:  # a failing disk; or ranks that must begin together
                raise
            again.add(error.trajectory)
            words = f"{error.message} It is now in {aside} and is trained again."
            yield Notice(level="warning", message=words)


def _matched(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    method = method_of(task.settings)
    state = yield from _state(task, run)
    earlier = (lambda iteration: run.newest_valid(until=iteration)) if task.ranks.writes else None
    iterating = _nothing() if method.iterate is None else method.iterate(task, buffer, state, earlier)
    loop = _distilled(task, buffer, run, state, iterating, control) if task.ranks.writes else iterating
    yield from timed("distillation", loop)
    del state  # the test reads the selected one
    chosen = task.ranks.led((yield from _selected(task, run)) if task.ranks.writes else None)
    if chosen is not None:
        networks = task.settings.evaluate.networks or (task.network_name,)
        yield from timed("evaluation", final_test(task, buffer, run, chosen, networks))


def _nothing() -> Events:
    """No events: the iterations of a method that makes its set at once."""
    yield from ()


def _selected(task: Task, run: Run) -> Generator[Event, None, int | None]:
    """The selected checkpoint, if it is whole; else the next best."""
    while (chosen := selected_iteration(run, task.settings)) is not None:
        try:
            run.load_checkpoint(chosen)
            break
        except CorruptFileError as error:
            words = f"{error.message} It is now in {set_checkpoint_aside(run, chosen)}; the next best is tested."
            yield Notice(level="warning", message=words)
    return chosen


def _state(task: Task, run: Run) -> Generator[Event, None, State]:
    found, problems = None, list[str]()
    if task.ranks.writes:
        at = Progress(stage="distillation", done=0, total=task.settings.distill.iterations, unit="iterations")
        found, problems = yield from told(beside(lambda: newest_state(run)), at, "reading the checkpoint")
    for words in problems:
        yield Notice(level="warning", message=words)
    method = method_of(task.settings)
    state = method.initial_state(task) if found is None else method.restored_state(*found, task)
    for tensor in state.tensors().values():
        task.ranks.lead_(tensor)
    state.count(task.ranks.led(state.counters()))
    return state


def _distilled(task: Task, buffer: TeacherBuffer, run: Run, state: State, loop: Events, control: Control) -> Events:
    """Distil, saving, evaluating and filming on the way; on any stop the state is saved."""
    settings = task.settings
    saved = state.iteration if state.iteration in run.checkpoints() else None
    camera = Camera(run.film, task.space, task.classes, settings.distill.ipc, task.dataset.resolution)
    size = sum(tensor.nbytes for tensor in state.tensors().values())
    needed = checkpoints_bytes(settings.distill.keep, size, bytes_in(run.folder / "checkpoints"))
    yield from check_room(run.folder, needed, "checkpoints", settings.compute.room)
    control.accept(True)
    try:
        if saved is None:
            yield _save(run, state, camera)
            saved = state.iteration
        elif frame_problem(frame_path(run.film, saved)):  # killed between checkpoint and frame
            camera.shoot(saved, state.images, state.labels, lasting=True)
        if settings.distill.iterations == 0:
            return  # a single state: there is nothing to select
        yield from baseline(task, run)
        yield from _missed(task, buffer, run, state)
        if _evaluation_due(state, settings):
            yield from held_out(task, buffer, run, state)
        for event in loop:
            yield event
            if not event.journaled or state.iteration == saved:
                continue
            save_now, evaluate_now = control.wishes()
            evaluating = evaluate_now or _evaluation_due(state, settings)
            if save_now or evaluating or state.iteration % settings.distill.checkpoint_every == 0:
                yield _save(run, state, camera)
                saved = state.iteration
                if evaluating:
                    yield from held_out(task, buffer, run, state)
                control.granted()
                run.prune(settings.distill.keep, {0, selected_iteration(run, settings) or 0, state.good})
                camera.thin(run.checkpoints())
            elif camera.due():
                camera.shoot(state.iteration, state.images, state.labels, lasting=False)
                camera.thin(run.checkpoints())  # a checkpoint may be long away
        run.prune(settings.distill.keep, {0, selected_iteration(run, settings) or 0})  # if a kill kept it from that
    finally:
        control.accept(False)
        loop.close()
        if state.iteration != saved:
            _save(run, state, camera)


def _missed(task: Task, buffer: TeacherBuffer, run: Run, state: State) -> Events:
    """Evaluations of older checkpoints that were lost: the selection must not depend on what was damaged."""
    restored = method_of(task.settings).restored_state
    for iteration in run.checkpoints():
        if iteration >= state.iteration or iteration % task.settings.evaluate.every or not len(task.holdout):
            continue
        if not evaluation_known(task, run, iteration):
            with suppress(CorruptFileError):  # a damaged one is not worth an evaluation
                yield from held_out(task, buffer, run, restored(*run.load_checkpoint(iteration), task))


def _save(run: Run, state: State, camera: Camera) -> CheckpointSaved:
    path = run.save_checkpoint(state.tensors(), state.counters())
    camera.shoot(state.iteration, state.images, state.labels, lasting=True)
    return CheckpointSaved(iteration=state.iteration, path=str(path.relative_to(run.folder)))


def _evaluation_due(state: State, settings: Settings) -> bool:
    return state.iteration % settings.evaluate.every == 0 or state.iteration == settings.distill.iterations

"""A session chains the stages: data -> teachers -> distillation with evaluations -> the test. The main loop is `drive`.

Each function here is a generator of events; whoever iterates it renders, and stops it by closing it.
"""

import json
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch

from engine.assessments import baseline, final_test, held_out
from engine.buffers import TeacherBuffer
from engine.compiler_cache import keep_compiled
from engine.compute import configure, environment
from engine.control import Control
from engine.data import ResidentImages
from engine.data.dataset import Classes, Pixels
from engine.distill import DistillState, distill, initial_state, restored_state
from engine.errors import CorruptFileError, TeslaError, UsageError, WorkersStoppedError
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
)
from engine.journal import JournalWriter
from engine.parallel.ranks import ALONE, Ranks
from engine.preview import Camera
from engine.pulse import Heart, beating
from engine.run import Run, checkpoint_to_use, selected_iteration
from engine.selection import check_ipc
from engine.settings import EffectiveSettings, Settings
from engine.sharing import check_shared
from engine.task import DTYPES, Split, Task
from engine.teachers import train_teachers
from engine.workspace import Workspace, driving

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
    opening = open_task(workspace, effective.settings, ranks)
    while True:
        try:
            event = next(opening)
        except StopIteration as end:
            task, buffer = end.value
            break
        if event.journaled:
            early.append(event)  # there is no journal before the run is known to be possible
        yield event
    with driving(run), beating(run.pulse_file) as heart:
        run.freeze(effective)
        journal = JournalWriter(run.journal_file)
        begun = time.monotonic()
        resumed = max(run.checkpoints(), default=None)
        started = RunStarted(
            run=run.name,
            resumed_from=resumed,
            settings=effective.flat(),
            environment={**environment(task.device), "workers": ranks.size},
        )
        for event in (started, *early):
            journal.append(event)
        yield started
        stages = _stages(task, buffer, run, control)
        try:
            for event in stages:
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
            journal.append(RunFailed(message=str(error)))
            raise
        except BaseException as error:
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
    task, buffer = yield from open_task(workspace, effective.settings, ranks)
    stages = _stages(task, buffer, run, Control())
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
    task, buffer = yield from open_task(workspace, settings)
    yield from timed("teachers", train_teachers(task, buffer))


def evaluate_run(
    workspace: Workspace, run: Run, settings: Settings, iteration: int | None, networks: Sequence[str]
) -> Events:
    """Measure a run's selected (or a given) checkpoint on the test images, with any networks."""
    task, buffer = yield from open_task(workspace, settings)
    chosen = checkpoint_to_use(run, settings, iteration)
    yield from timed("evaluation", final_test(task, buffer, run, chosen, networks))


def open_task(
    workspace: Workspace, settings: Settings, ranks: Ranks = ALONE
) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Data and buffer of a workspace under given settings, on the device. Use as `yield from`."""
    keep_compiled(workspace.folder)
    device = configure(settings.compute, ranks.place)
    opened = yield from workspace.open_dataset(settings)
    dataset, kept, held = opened.dataset, opened.kept, opened.held
    space = opened.space.to(device, DTYPES[settings.compute.dtype])

    def part(pixels: Pixels, labels: Classes, index: Classes) -> Split:
        return Split(ResidentImages(pixels, index, space, device), torch.from_numpy(labels[index]))

    task = Task(
        settings=settings,
        dataset=dataset,
        space=space,
        device=device,
        train=part(dataset.train_images, dataset.train_labels, kept),
        holdout=part(dataset.train_images, dataset.train_labels, held),
        test=part(dataset.test_images, dataset.test_labels, np.arange(len(dataset.test_labels))),
        ranks=ranks,
    )
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


def _stages(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    buffer.open()
    yield from timed("teachers", train_teachers(task, buffer))
    state = yield from _state(task, run)
    loop = _distilled(task, buffer, run, state, control) if task.ranks.writes else distill(task, buffer, state)
    yield from timed("distillation", loop)
    del state  # the test reads the selected one
    chosen = task.ranks.led(selected_iteration(run, task.settings))
    if chosen is not None:
        networks = task.settings.evaluate.networks or (task.network_name,)
        yield from timed("evaluation", final_test(task, buffer, run, chosen, networks))


def _state(task: Task, run: Run) -> Generator[Event, None, DistillState]:
    problems: list[CorruptFileError] = []
    found = run.newest_valid(problems.append) if task.ranks.writes else None
    for problem in problems:
        yield Notice(level="warning", message=str(problem))
    state = initial_state(task) if found is None else restored_state(*found, task)
    for tensor in state.tensors().values():
        task.ranks.lead_(tensor)
    for name, value in task.ranks.led(state.counters()).items():
        setattr(state, name, value)
    return state


def _distilled(task: Task, buffer: TeacherBuffer, run: Run, state: DistillState, control: Control) -> Events:
    """Distil, saving, evaluating and filming on the way; on any stop the state is saved."""
    settings = task.settings
    saved = state.iteration if state.iteration in run.checkpoints() else None
    loop = distill(task, buffer, state)
    camera = Camera(run.film, task.space, task.classes, settings.distill.ipc, task.dataset.resolution)
    control.accept(True)
    try:
        if saved is None:
            yield _save(run, state, camera)
            saved = state.iteration
        yield from baseline(task, run)
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
                run.prune(settings.distill.keep, {0, selected_iteration(run, settings) or 0})
                camera.thin(run.checkpoints())
            elif camera.due():
                camera.shoot(state.iteration, state.images, state.labels, lasting=False)
    finally:
        control.accept(False)
        loop.close()
        if state.iteration != saved:
            _save(run, state, camera)


def _save(run: Run, state: DistillState, camera: Camera) -> CheckpointSaved:
    path = run.save_checkpoint(state.tensors(), state.counters())
    camera.shoot(state.iteration, state.images, state.labels, lasting=True)
    return CheckpointSaved(iteration=state.iteration, path=str(path.relative_to(run.folder)))


def _evaluation_due(state: DistillState, settings: Settings) -> bool:
    return state.iteration % settings.evaluate.every == 0 or state.iteration == settings.distill.iterations

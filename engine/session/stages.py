"""The stages of a run, one after the other, and what is saved, evaluated, filmed and pruned between iterations."""

from collections.abc import Generator
from contextlib import suppress

from engine.errors import (
    CorruptFileError,
    DamagedTrajectoryError,
)
from engine.events import (
    CheckpointSaved,
    Event,
    Notice,
    Progress,
    stage_events,
    with_progress,
)
from engine.methods.method import State, beginning
from engine.methods.registry import method_of
from engine.runs.preview_frames import frame_path, frame_problem
from engine.runs.preview_writer import PreviewWriter
from engine.runs.recovery import newest_state, set_checkpoint_aside
from engine.runs.run import Run, selected_iteration
from engine.runtime.disk_space import bytes_in, check_room, checkpoints_bytes
from engine.runtime.threads import run_in_thread
from engine.session.control import Control
from engine.session.evaluations import baseline, evaluation_known, final_test, held_out
from engine.settings import Settings
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers

Events = Generator[Event, None, None]


def stages(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    """Whatever is missing of a run after its data: teachers, the method's iterations with evaluations, the test."""
    if not task.settings.needs_teachers:
        yield from _matched(task, buffer, run, control)
        return
    for words in buffer.open():
        yield Notice(level="warning", message=words)
    again: set[int] = set()
    while True:
        try:
            yield from stage_events("teachers", train_teachers(task, buffer))
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
    state = yield from _state(task, buffer, run)
    earlier = (lambda iteration: run.newest_valid(until=iteration)) if task.ranks.writes else None
    iterating = _nothing() if method.iterate is None else method.iterate(task, buffer, state, earlier)
    loop = _distilled(task, buffer, run, state, iterating, control) if task.ranks.writes else iterating
    yield from stage_events("distillation", loop)
    del state  # the test reads the selected one
    chosen = task.ranks.led((yield from _selected(task, run)) if task.ranks.writes else None)
    if chosen is not None:
        networks = task.settings.evaluate.networks or (task.network_name,)
        yield from stage_events("evaluation", final_test(task, buffer, run, chosen, networks))


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


def _state(task: Task, buffer: TeacherBuffer, run: Run) -> Generator[Event, None, State]:
    found, problems = None, list[str]()
    if task.ranks.writes:
        at = Progress(stage="distillation", done=0, total=task.settings.distill.iterations, unit="iterations")
        found, problems = yield from with_progress(
            run_in_thread(lambda: newest_state(run)), at, "reading the checkpoint"
        )
    for words in problems:
        yield Notice(level="warning", message=words)
    method = method_of(task.settings)
    if found is not None:
        state = method.restored_state(*found, task)
    else:
        state = yield from beginning(method, task, buffer)
    for tensor in state.tensors().values():
        task.ranks.lead_(tensor)
    state.count(task.ranks.led(state.counters()))
    return state


def _distilled(task: Task, buffer: TeacherBuffer, run: Run, state: State, loop: Events, control: Control) -> Events:
    """Distil, saving, evaluating and filming on the way; on any stop the state is saved."""
    settings = task.settings
    saved = state.iteration if state.iteration in run.checkpoints() else None
    camera = PreviewWriter(run.film, task.space, task.classes, settings.distill.ipc, task.dataset.resolution)
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
            save_now, evaluate_now = control.requests()
            evaluating = evaluate_now or _evaluation_due(state, settings)
            if save_now or evaluating or state.iteration % settings.distill.checkpoint_every == 0:
                yield _save(run, state, camera)
                saved = state.iteration
                if evaluating:
                    yield from held_out(task, buffer, run, state)
                control.acknowledge()
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


def _save(run: Run, state: State, camera: PreviewWriter) -> CheckpointSaved:
    path = run.save_checkpoint(state.tensors(), state.counters())
    camera.shoot(state.iteration, state.images, state.labels, lasting=True)
    return CheckpointSaved(iteration=state.iteration, path=str(path.relative_to(run.folder)))


def _evaluation_due(state: State, settings: Settings) -> bool:
    return state.iteration % settings.evaluate.every == 0 or state.iteration == settings.distill.iterations

"""The main loop: iterate; then save, evaluate and preview, each when it is due.

`run_stages` is the rest of a run once its data are open: teachers, the loop, the test. Every function is a
generator of events: `engine.session.session` records them and stops a stage by closing it.
"""

from collections.abc import Generator

from engine.errors import CorruptFileError, DamagedTrajectoryError
from engine.events import Event, Notice, Progress, stage_events, with_progress
from engine.methods.method import State
from engine.methods.registry import method_of
from engine.runs.recovery import newest_state, set_checkpoint_aside
from engine.runs.run import Run
from engine.runs.selection import selected_iteration
from engine.runtime.threads import run_in_thread
from engine.session.control import Control
from engine.session.evaluations import final_test
from engine.session.outputs import RunOutputs
from engine.session.remarks import check_updated
from engine.training.task import Task
from engine.training.teacher_accuracy import teacher_stage
from engine.training.teacher_buffer import TeacherBuffer

Events = Generator[Event, None, None]


def distil(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    """The main loop of every method. However it ends, the state is saved.

    Raises:
        DivergedError: no update was applied.
    """
    method = method_of(task.settings)
    state = yield from resumed_or_new_state(task, buffer, run)
    step = method.make_step(task, buffer, run.newest_valid if task.ranks.writes else None)
    with RunOutputs(task, buffer, run, state, control) as outputs:
        yield from outputs.start()
        while state.iteration < task.settings.distill.iterations:
            yield from step(state)  # the images are updated here
            due = outputs.due()
            if due.save:
                yield outputs.save()
            if due.evaluate:
                yield from outputs.evaluate()
            if due.preview:
                outputs.preview()
            outputs.prune(due)
    check_updated(task, run, state)


def run_stages(task: Task, buffer: TeacherBuffer, run: Run, control: Control) -> Events:
    """What a run still lacks: teachers, iterations, the test.

    A trajectory that turns out to be damaged is set aside and trained again, to the same bits; the run then resumes.
    """
    if task.settings.needs_teachers:
        for words in buffer.open():
            yield Notice(level="warning", message=words)
    retrained: set[int] = set()
    while True:
        try:
            if task.settings.needs_teachers:
                yield from stage_events("teachers", teacher_stage(task, buffer))
            yield from stage_events("distillation", distil(task, buffer, run, control))
            yield from test_selected(task, buffer, run)
            return
        except DamagedTrajectoryError as error:
            aside = buffer.set_aside(error.trajectory)
            # Twice in a row: the disk is failing. Several ranks would have to restart together.
            if error.trajectory in retrained or task.ranks.size > 1:
                raise
            retrained.add(error.trajectory)
            words = f"{error.message} It was moved to {aside} and is trained again."
            yield Notice(level="warning", message=words)


def resumed_or_new_state(task: Task, buffer: TeacherBuffer, run: Run) -> Generator[Event, None, State]:
    """The state of the newest whole checkpoint, or the one before iteration 1; the same on every rank."""
    method = method_of(task.settings)
    found, problems = None, list[str]()
    if task.ranks.writes:
        at = Progress(stage="distillation", done=0, total=task.settings.distill.iterations, unit="iterations")
        found, problems = yield from with_progress(
            run_in_thread(lambda: newest_state(run)), at, "reading the checkpoint"
        )
    for words in problems:
        yield Notice(level="warning", message=words)
    if found is not None:
        state = method.restore_state(*found, task)
    else:
        state = yield from method.init_state(task, buffer)
    for tensor in state.tensors().values():
        task.ranks.lead_(tensor)
    state.count(task.ranks.led(state.counters()))
    return state


def test_selected(task: Task, buffer: TeacherBuffer, run: Run) -> Events:
    """The test accuracy of the selected checkpoint; if that one is damaged, of the next best."""
    chosen = task.ranks.led((yield from _selected(task, run)) if task.ranks.writes else None)
    if chosen is not None:
        networks = task.settings.evaluate.networks or (task.network_name,)
        yield from stage_events("evaluation", final_test(task, buffer, run, chosen, networks))


def _selected(task: Task, run: Run) -> Generator[Event, None, int | None]:
    while (chosen := selected_iteration(run, task.settings)) is not None:
        try:
            run.load_checkpoint(chosen)
            break
        except CorruptFileError as error:
            words = f"{error.message} It was moved to {set_checkpoint_aside(run, chosen)}; the next best is tested."
            yield Notice(level="warning", message=words)
    return chosen

"""What the main loop leaves on disk: checkpoints, evaluations on the held-out part, and previews; and when each is due.

Only the first rank writes. All take part in evaluations, which the first says are due.
"""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from engine.errors import CorruptFileError
from engine.events import CheckpointSaved, Event
from engine.methods.method import State
from engine.methods.registry import method_of
from engine.runs.preview_frames import frame_path, frame_problem
from engine.runs.preview_writer import PreviewWriter
from engine.runs.run import Run
from engine.runs.selection import selected_iteration
from engine.runtime.disk_space import bytes_in, check_room, checkpoints_bytes
from engine.session.control import Control
from engine.session.evaluations import baseline, evaluation_known, held_out
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Due:
    """What is to be done after an iteration. What is evaluated is saved first."""

    save: bool = False
    evaluate: bool = False
    preview: bool = False


class RunOutputs:
    """Writes the outputs of a state that are due. A context manager: on exit, an unsaved state is saved.

    Args:
        task: the problem.
        buffer: its teachers.
        run: where the files go.
        state: changes between calls.
        control: requests to the session.
    """

    def __init__(self, task: Task, buffer: TeacherBuffer, run: Run, state: State, control: Control) -> None:
        self._task = task
        self._buffer = buffer
        self._run = run
        self._state = state
        self._control = control
        self._settings = task.settings
        self._saved = state.iteration if state.iteration in run.checkpoints() else None
        self._started = False
        self._previews = PreviewWriter(
            run.film, task.space, task.decoder, task.classes, task.settings.distill.ipc, task.dataset.resolution
        )

    def __enter__(self) -> Self:
        self._control.accept(self._task.ranks.writes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.accept(False)
        if self._started and self._state.iteration != self._saved:
            self.save()

    def start(self) -> Events:
        """Before the first iteration: room on the disk, a first checkpoint, the baseline, evaluations that are missing.

        Raises:
            TeslaError: the disk has no room for the checkpoints.
        """
        if self._task.ranks.writes:
            yield from self._start_writing()
        if self._settings.distill.iterations == 0:
            return  # a single state: nothing to select
        yield from baseline(self._task, self._run)
        yield from self._evaluate_missing()
        if self._evaluation_due():
            yield from self.evaluate()
        if self._task.ranks.writes and self._state.iteration == self._settings.distill.iterations:
            self._prune_checkpoints()  # a killed driver may not have done it

    def _start_writing(self) -> Events:
        state, settings = self._state, self._settings
        size = sum(tensor.nbytes for tensor in state.tensors().values())
        needed = checkpoints_bytes(settings.distill.keep, size, bytes_in(self._run.folder / "checkpoints"))
        yield from check_room(self._run.folder, needed, "checkpoints", settings.compute.room)
        self._started = True
        if self._saved is None:
            yield self.save()
        elif frame_problem(frame_path(self._run.film, state.iteration)):  # killed between checkpoint and frame
            self._preview(lasting=True)

    def due(self) -> Due:
        """What is due after this iteration, by the settings or by request to the first rank."""
        save_asked, evaluation_asked = self._control.requests()
        evaluate = self._task.ranks.led(evaluation_asked or self._evaluation_due())
        if not self._task.ranks.writes:
            return Due(evaluate=evaluate)
        save = save_asked or evaluate or self._state.iteration % self._settings.distill.checkpoint_every == 0
        return Due(save, evaluate, preview=not save and self._previews.due())

    def save(self) -> CheckpointSaved:
        """Save a checkpoint, with a preview that lasts as long as it."""
        path = self._run.save_checkpoint(self._state.tensors(), self._state.counters())
        self._preview(lasting=True)
        self._saved = self._state.iteration
        return CheckpointSaved(iteration=self._state.iteration, path=str(path.relative_to(self._run.folder)))

    def evaluate(self) -> Events:
        """Measure this state on the held-out part, unless it is known."""
        yield from held_out(self._task, self._buffer, self._run, self._state)

    def preview(self) -> None:
        """A quick frame between two checkpoints."""
        self._preview(lasting=False)

    def prune(self, due: Due) -> None:
        """After an iteration's work: requests are granted, old checkpoints and frames removed."""
        if due.save:
            self._control.acknowledge(due.save, due.evaluate)
            self._prune_checkpoints()
        if due.save or due.preview:
            self._previews.thin(self._run.checkpoints())

    def _preview(self, *, lasting: bool) -> None:
        self._run.guard()
        self._previews.write(self._state.iteration, self._state.images, self._state.labels, lasting=lasting)

    def _prune_checkpoints(self) -> None:
        settings, state = self._settings, self._state
        selected = selected_iteration(self._run, settings) or 0
        good = state.good if state.iteration < settings.distill.iterations else 0  # the last one is not recovered from
        self._run.prune(settings.distill.keep, {0, selected, good})

    def _evaluation_due(self) -> bool:
        iteration = self._state.iteration
        return iteration % self._settings.evaluate.every == 0 or iteration == self._settings.distill.iterations

    def _evaluate_missing(self) -> Events:
        """Evaluations of older checkpoints that were lost: the selection must not depend on what was damaged."""
        restore, ranks = method_of(self._settings).restore_state, self._task.ranks
        for iteration in ranks.led(self._run.checkpoints()):
            if iteration >= self._state.iteration or iteration % self._settings.evaluate.every:
                continue
            if len(self._task.holdout) and not ranks.led(evaluation_known(self._task, self._run, iteration)):
                state = None
                with suppress(CorruptFileError):  # a damaged one is not worth an evaluation
                    state = restore(*self._run.load_checkpoint(iteration), self._task)
                if all(ranks.gathered(state is not None)) and state is not None:
                    yield from held_out(self._task, self._buffer, self._run, state)

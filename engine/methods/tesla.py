"""`tesla`: trajectory matching with constant memory. `TrajectoryMatching` is its step, the heart of an iteration.

What an iteration draws is a function of its number (`draws.py`); what it changes is `DistillState` (`tesla_state.py`).
"""

import gc
import time
from collections.abc import Generator
from functools import partial

import torch
from torch import Tensor

from engine.events import Event, IterationDone, Notice, Progress, RunRecovered, share_done
from engine.matching import WHOLE, MatchingGradient, Parts, Steps, matching_sweeps
from engine.matching.parameter_store import Store
from engine.methods.draws import Draw, draw_iteration
from engine.methods.method import LoadCheckpoint, Method
from engine.methods.student_steps import smaller_parts, student_steps
from engine.methods.teacher_init import init_state
from engine.methods.tesla_labels import export_labels, fixed_labels
from engine.methods.tesla_recovery import recover, skip
from engine.methods.tesla_state import DistillState, next_student_lr, outcome, restore_state, update
from engine.runtime.generators import map_events
from engine.runtime.rng import counted_seed
from engine.runtime.transfer import to_device
from engine.settings import Settings
from engine.training import labels as label_rules
from engine.training.divergence import MOST_RECOVERIES, WINDOW, Numbers, exhausted, problem
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

STAGE = "distillation"


class TrajectoryMatching:
    """One iteration: draw, gradient, check the numbers once, update the images or skip.

    Keeps what no checkpoint needs: compiled steps and the buffers of the last gradient.

    Args:
        task: the problem.
        buffer: its teachers.
        load_checkpoint: gives the checkpoint to roll back to; without it images stay as they are. Only the first
            rank's is used.

    Raises:
        DivergedError: the numbers stayed bad through every recovery, or a teacher is not usable.
    """

    def __init__(self, task: Task, buffer: TeacherBuffer, load_checkpoint: LoadCheckpoint | None = None) -> None:
        self._task = task
        self._buffer = buffer
        self._load_checkpoint = load_checkpoint
        self._store = task.settings.distill.store
        self._steps: Steps | None = None
        self._gradient: MatchingGradient | None = None

    def __call__(self, state: DistillState) -> Generator[Event, None, None]:
        """Do one iteration. Close the generator to stop within one matching step."""
        started = time.monotonic()
        task, settings, health = self._task, self._task.settings, state.health
        draw = draw_iteration(task, state.iteration)
        gradient, logit_gradient = yield from self._matching_gradient(state, draw)
        numbers, student_lr = self._numbers(state, gradient, logit_gradient)
        reason = problem(numbers, health, settings)
        if reason:
            yield from skip(task, state, reason, numbers, self._load_checkpoint)
            return
        update(state, gradient, logit_gradient, settings)
        health.accept(numbers)
        drift = (
            f"rose slowly to {health.loss:.3g}, from {health.lowest:.3g} at its lowest" if health.loss_drifting else ""
        )
        recovered = recover(task, state, self._load_checkpoint, roll_back=True) if drift else None
        if not drift and saves_at(state.iteration, settings):
            health.mark(state.iteration)
        yield IterationDone(
            iteration=state.iteration, iterations=settings.distill.iterations, loss=numbers.loss, student_lr=student_lr,
            gradient_norm=numbers.norm, student_lr_gradient=numbers.lr_gradient, trajectory=draw.trajectory,
            start_epoch=draw.start_epoch, seconds=time.monotonic() - started,
        )  # fmt: skip
        if recovered is not None:
            yield from self._recovered(state, recovered, f"the mean matching loss of {WINDOW} iterations {drift}")

    def _matching_gradient(
        self, state: DistillState, draw: Draw
    ) -> Generator[Event, None, tuple[MatchingGradient, Tensor | None]]:
        """Of the matching loss; where memory runs out, again with fewer images at once."""
        while True:
            try:
                self._steps = self._steps or (yield from student_steps(self._task, state))
                found = yield from matching_gradient_of(
                    self._task, self._steps, self._buffer, state, draw, self._store, self._gradient
                )
            except Exception as error:
                smaller = smaller_parts(self._task, state, error)
                if smaller is None:
                    raise
            else:
                self._gradient = found[0]
                return found
            # Outside of the handler: the error keeps what filled the memory alive.
            self._steps = self._gradient = None
            self._store = "checkpoint" if self._store == "auto" else self._store  # to the same bits
            gc.collect()  # an error that came through a thread is in a cycle with its frames
            if self._task.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self._task.device.type == "mps":
                torch.mps.empty_cache()
            yield smaller

    def _numbers(
        self, state: DistillState, gradient: MatchingGradient, logit_gradient: Tensor | None
    ) -> tuple[Numbers, float]:
        """What decides about the update, and student_lr after it.

        The only point of an iteration where the host waits for the device.
        """
        after = outcome(state, gradient, logit_gradient, self._task.settings)
        student_lr = next_student_lr(state.student_lr, after[2], self._task.settings)
        found = [gradient.loss, gradient.images.norm(), gradient.student_lr, *after, student_lr]
        *judged, shown = torch.stack(found).tolist()
        return Numbers(*self._task.ranks.agreed(judged)), shown

    def _recovered(self, state: DistillState, recovered: RunRecovered, reason: str) -> Generator[Event, None, None]:
        yield Notice(level="warning", message=f"Iteration {state.iteration}: {reason}.")
        if state.health.recoveries > MOST_RECOVERIES:
            raise exhausted(reason, state.health.good)
        yield recovered


def saves_at(iteration: int, settings: Settings) -> bool:
    """Whether a checkpoint is saved after that iteration on schedule; others may be saved besides."""
    return iteration % settings.distill.checkpoint_every == 0 or iteration % settings.evaluate.every == 0


def matching_gradient_of(
    task: Task,
    steps: Steps,
    buffer: TeacherBuffer,
    state: DistillState,
    draw: Draw,
    store: Store,
    reuse: MatchingGradient | None = None,
) -> Generator[Event, None, tuple[MatchingGradient, Tensor | None]]:
    """Gradient of an iteration's matching loss, and of its label logits `(N, K)` where labels are learned."""
    settings = task.settings
    target_epoch = draw.start_epoch + settings.distill.teacher_epochs
    kind = settings.labels.kind
    epochs = [draw.start_epoch, target_epoch]
    if kind == "last":
        epochs.append(settings.teachers.epochs)
    snapshots = [to_device(row, task.device, task.dtype) for row in buffer.read(draw.trajectory, *epochs)]
    state.labels = None  # free the last iteration's before this one's
    total = settings.distill.iterations
    at = Progress(stage=STAGE, done=state.iteration, total=total, unit="iterations")
    if kind in ("target", "last"):
        asked = label_rules.labelling(steps.network, snapshots[2 if kind == "last" else 1], state.images, task.ranks)
        # Reported as the labels advance: for many images they take minutes.
        probabilities = yield from map_events(asked, lambda _: at)
    else:
        probabilities = fixed_labels(task, state)
    sweeps = matching_sweeps(
        steps, start=snapshots[0], target=snapshots[1], images=state.images, labels=probabilities,
        student_lr=state.student_lr, schedule=draw.schedule, mode=settings.distill.gradient,
        store=store, reuse=reuse,
        shares=WHOLE if task.ranks.size == 1 else Parts(task.ranks, draw.shares, labels=kind == "learned"),
        seed=counted_seed(settings.seed, "student", state.iteration, task.ranks.rank),
    )  # fmt: skip
    if kind != "hard":
        state.labels = (
            label_rules.nearest_probabilities(probabilities) if label_rules.are_raw(settings) else probabilities
        )
    gradient = yield from map_events(sweeps, partial(share_done, at))
    if state.logits is None:
        return gradient, None
    if label_rules.are_raw(settings):
        return gradient, gradient.labels
    # d(softmax)/d(logits), applied to dL/dprobabilities.
    inner = (gradient.labels * probabilities).sum(dim=1, keepdim=True)
    return gradient, probabilities * (gradient.labels - inner)


TESLA = Method(
    name="tesla",
    init_state=init_state,
    restore_state=restore_state,
    make_step=TrajectoryMatching,
    export_labels=export_labels,
    reads=("distill.", "labels.", "teachers."),
    shares=True,
)

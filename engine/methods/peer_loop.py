"""The step of the peers that iterate: propose new tensors, check the numbers once, accept all or nothing."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.errors import DivergedError
from engine.events import Event, IterationDone, IterationSkipped, Progress, share_done
from engine.methods.method import LoadCheckpoint, MakeStep, Step
from engine.methods.peer_state import PeerState
from engine.runtime.generators import map_events
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

STAGE = "distillation"

PATIENCE = 5
"""Skipped iterations in a row before the run stops: each draws another network, so one alone means little."""


@dataclass(frozen=True)
class Proposal:
    """The outcome of an iteration."""

    changed: dict[str, Tensor]
    """New tensors for `PeerState.carried`; the old ones are untouched."""
    loss: Tensor
    """A scalar on the device."""
    gradient_norm: Tensor
    """Euclidean norm of dloss/dimages, a scalar on the device."""
    labels: Tensor | None = None
    """New soft labels `(N, K)`, for pictures."""


Propose = Callable[[Task, dict[str, Tensor], int], Generator[float, None, Proposal]]
"""`(task, carried, iteration)`, pausing after every step with the share of the iteration that is done, 0..1."""


def stepping(propose: Propose) -> MakeStep:
    """The step of a peer that proposes new tensors.

    An iteration that is stopped midway leaves no trace, and the next process repeats it from the same draws.

    Raises:
        DivergedError: the numbers were bad five times in a row.
    """

    def make_step(task: Task, buffer: TeacherBuffer, load_checkpoint: LoadCheckpoint | None) -> Step:
        return partial(_step, task, propose)

    return make_step


def _step(task: Task, propose: Propose, state: PeerState) -> Generator[Event, None, None]:
    total = task.settings.distill.iterations
    started = time.monotonic()
    at = Progress(stage=STAGE, done=state.iteration, total=total, unit="iterations")
    proposing = propose(task, state.carried, state.iteration)
    proposal = yield from map_events(proposing, partial(share_done, at))
    # A finite gradient may still overflow what is updated: images, momentum, a network of a pool.
    updated = {name: tensor for name, tensor in proposal.changed.items() if tensor.is_floating_point()}
    whole = [tensor.isfinite().all().to(proposal.loss) for tensor in updated.values()]
    # The one point of an iteration where the host waits for the device.
    loss, norm, *good = torch.stack([proposal.loss, proposal.gradient_norm, *whole]).tolist()
    bad = [f"updated {name}" for name, is_good in zip(updated, good, strict=True) if not is_good]
    # What follows from a bad loss or gradient says nothing more.
    names = [name for name, value in (("loss", loss), ("image gradient", norm)) if not math.isfinite(value)] or bad
    if names:
        yield from _skip(state, loss, f"{' and '.join(names)} not finite")
        return
    state.carried.update(proposal.changed)
    state.labels = proposal.labels
    state.iteration += 1
    state.skipped = 0
    yield IterationDone(
        iteration=state.iteration, iterations=total, loss=loss, student_lr=task.settings.distill.student_lr,
        gradient_norm=norm, student_lr_gradient=None, trajectory=None, start_epoch=None,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _skip(state: PeerState, loss: float, reason: str) -> Generator[Event, None, None]:
    state.iteration += 1
    state.skipped += 1
    yield IterationSkipped(
        iteration=state.iteration,
        reason=reason,
        loss=loss if math.isfinite(loss) else None,
        consecutive=state.skipped,
    )
    if state.skipped >= PATIENCE:
        raise DivergedError(
            f"The numbers were bad for {PATIENCE} iterations in a row ({reason}).",
            "Start a new run with a smaller distill.lr_images; the last checkpoint is intact.",
        )


def momentum_step(images: Tensor, velocity: Tensor, gradient: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """SGD with momentum as `torch.optim.SGD`, on new tensors: images and velocity after it."""
    distill = task.settings.distill
    velocity = distill.momentum * velocity + gradient
    return images - distill.lr_images * velocity, velocity

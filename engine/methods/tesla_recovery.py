"""When an iteration's numbers are bad: skip it, halve student_lr, roll back, stop (docs/divergence.md)."""

import math
from collections.abc import Generator

from engine.events import Event, IterationSkipped, RunRecovered
from engine.methods.method import LoadCheckpoint
from engine.methods.tesla_state import DistillState
from engine.training.divergence import MOST_RECOVERIES, PATIENCE, Numbers, exhausted
from engine.training.task import Task


def skip(
    task: Task, state: DistillState, reason: str, numbers: Numbers, load_checkpoint: LoadCheckpoint | None
) -> Generator[Event, None, None]:
    """Skip; after too many in a row recover; after too many recoveries stop. No bad update was ever applied."""
    state.iteration += 1
    health = state.health
    health.skipped += 1
    consecutive = health.skipped
    recovered = None
    if consecutive >= PATIENCE:
        recovered = recover(task, state, load_checkpoint, roll_back=health.recoveries > 0)
    yield IterationSkipped(
        iteration=state.iteration, reason=reason, loss=numbers.loss if math.isfinite(numbers.loss) else None,
        consecutive=consecutive,
    )  # fmt: skip
    if recovered is None:
        return
    if health.recoveries > MOST_RECOVERIES:
        raise exhausted(reason, health.good)
    yield recovered


def recover(
    task: Task, state: DistillState, load_checkpoint: LoadCheckpoint | None, *, roll_back: bool
) -> RunRecovered:
    """Halve student_lr and clear the momentum; `roll_back`: from the last good checkpoint. The iteration continues: a
    draw is a function of its number, and the same ones would end the same way."""
    health = state.health
    health.recover()
    found = load_checkpoint(health.good) if roll_back and load_checkpoint is not None and task.ranks.writes else None
    target = task.ranks.led(None if found is None else found[1]["iteration"])
    for name, tensor in state.tensors().items():
        if name.startswith("velocity"):
            tensor.zero_()
        elif target is not None:
            if found is not None:
                tensor.copy_(found[0][name])
            task.ranks.lead_(tensor)
    # Every recovery since is a halving of what the checkpoint has.
    state.student_lr.mul_(0.5 if target is None else 0.5**health.recoveries)
    return RunRecovered(
        iteration=state.iteration, student_lr=state.student_lr.item(), recoveries=health.recoveries,
        rolled_back_to=target,
    )  # fmt: skip

"""When the numbers of a run go wrong: what counts as wrong, and what is done about it. See docs/divergence.md.

    skip       an iteration whose numbers must not be used changes nothing but the counters
    shrink     after PATIENCE skips in a row: student_lr is halved, momentum cleared
    roll back  when that did not help, or the loss rose slowly: images and labels of the last good checkpoint as well
    stop       after MOST_RECOVERIES of these without a good stretch between: an error

Every decision is a function of `DivergenceMonitor`, which checkpoints carry, and of the iteration's own numbers: a run
that was stopped in the middle of all this resumes to the same bits.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import DivergedError
from engine.settings import Settings

PATIENCE = 5
"""Skipped iterations in a row before student_lr is halved."""

MOST_RECOVERIES = 8
"""Halvings without a good stretch between before the run stops with an error."""

WINDOW = 20
"""Iterations of the running means, and of a good stretch."""

CREEP = 2.0
"""The loss has risen slowly when its running mean is above 1 and this many times its lowest."""

COLLAPSED = 2.0
"""A teacher's mean loss of an epoch, in units of guessing (log K), from which it counts as diverged."""

LEARNED = 0.9
"""A teacher whose loss is below this many times that of guessing has learned something."""


@dataclass(frozen=True)
class Numbers:
    """What an iteration is judged by, before its update is applied."""

    loss: float
    """Matching loss."""
    norm: float
    """Euclidean norm of dL/dimages."""
    lr_gradient: float
    """dL/dstudent_lr."""
    pixel: float
    """Largest absolute value any image would have after the update."""
    logit: float
    """Largest absolute value any label logit would have after the update; 0 without learned labels."""
    lr_velocity: float
    """What student_lr's momentum would be."""


@dataclass
class DivergenceMonitor:
    """How a run has been doing; carried from iteration to iteration."""

    skipped: int = 0
    """Skips in a row."""
    recoveries: int = 0
    """Recoveries since the last good stretch."""
    seen: int = 0
    """Updates since the last recovery."""
    loss: float = 0.0
    """Running mean of the matching loss over the last WINDOW of them."""
    norm: float = 0.0
    """... and of the image gradient's norm."""
    lowest: float | None = None
    """The lowest running mean of the loss over a whole window."""
    good: int = 0
    """Iteration of the checkpoint to go back to."""
    rows: int = 0
    """Images of a batch that are differentiated at once after memory ran out; 0 for all (see matching/micro.py)."""

    @staticmethod
    def of(record: Mapping[str, Any]) -> "DivergenceMonitor":
        """What a checkpoint's record says; records of older versions say less."""
        known = {field.name: record[field.name] for field in fields(DivergenceMonitor) if field.name in record}
        if "good" not in known and not known.get("skipped"):
            known["good"] = record["iteration"]
        return DivergenceMonitor(**known)

    def record(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    def accept(self, numbers: Numbers) -> None:
        """An iteration was good and its update applied."""
        self.skipped = 0
        self.seen += 1
        weight = 1 / min(self.seen, WINDOW)
        self.loss += (numbers.loss - self.loss) * weight
        self.norm += (numbers.norm - self.norm) * weight
        if self.seen >= WINDOW:
            self.lowest = self.loss if self.lowest is None else min(self.lowest, self.loss)

    def mark(self, iteration: int) -> None:
        """A checkpoint is about to be saved on schedule: after a good stretch it is one to go back to."""
        if self.skipped == 0 and self.seen >= WINDOW:
            self.good = iteration
            self.recoveries = 0

    @property
    def loss_drifting(self) -> bool:
        """Whether the loss has risen above what it was, update by update: to worse than no training at all."""
        return self.seen >= WINDOW and self.lowest is not None and self.loss > max(1.0, CREEP * self.lowest)

    def recover(self) -> None:
        """Another recovery starts; earlier means no longer apply."""
        self.recoveries += 1
        self.skipped = self.seen = 0
        self.loss = self.norm = 0.0


def problem(numbers: Numbers, health: DivergenceMonitor, settings: Settings) -> str:
    """Why these numbers must not be used for an update; empty if they may."""
    distill = settings.distill
    words = {
        "loss": numbers.loss, "image gradient": numbers.norm, "student_lr gradient": numbers.lr_gradient,
        "student_lr momentum": numbers.lr_velocity, "updated images": numbers.pixel, "updated logits": numbers.logit,
    }  # fmt: skip
    names = [name for name, value in words.items() if not math.isfinite(value)]
    if names:
        return f"{' and '.join(names)} not finite"
    if numbers.loss > distill.max_loss:
        return f"matching loss above distill.max_loss = {distill.max_loss:g}"
    if numbers.pixel > distill.max_pixel:
        return f"a pixel would reach {numbers.pixel:.3g}, above distill.max_pixel = {distill.max_pixel:g}"
    if health.seen >= WINDOW:
        for name, value, usual in (
            ("matching loss", numbers.loss, health.loss), ("image gradient", numbers.norm, health.norm)
        ):  # fmt: skip
            if usual > 0 and value > distill.max_jump * usual:
                return f"{name} {value / usual:.3g} times the usual, above distill.max_jump = {distill.max_jump:g}"
    return ""


def exhausted(reason: str, good: int) -> DivergedError:
    """The error at the end of the policy, with advice for the last reason."""
    if "not finite" in reason:
        smaller = "distill.student_lr or distill.lr_images (or fix the network, if it is your own)"
    elif "pixel" in reason or "gradient" in reason:
        smaller = "distill.lr_images"
    else:
        smaller = "distill.student_lr or distill.lr_images"
    return DivergedError(
        f"The numbers stayed bad ({reason}) after student_lr was halved {MOST_RECOVERIES} times and the images went "
        f"back to iteration {good}.",
        f"Start a new run (--run NAME) with a smaller {smaller}; the checkpoints of this one are intact.",
    )


def teacher_problem(losses: list[float], classes: int) -> str:
    """Why a teacher with these mean losses of epochs 1, 2, ... must not be used; empty if it may.

    Guessing has a cross-entropy of log K. A teacher has diverged if its loss is not a number, is far above guessing, or
    fell back to guessing after the teacher had learned.
    """
    chance = math.log(classes)
    best = math.inf
    for epoch, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            return f"in epoch {epoch} (loss {loss})"
        if loss > COLLAPSED * chance or (best < LEARNED * chance <= chance < loss):
            return f"in epoch {epoch} (loss {loss:.3g}, guessing has {chance:.3g})"
        best = min(best, loss)
    return ""

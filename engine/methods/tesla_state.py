"""What a distillation carries from one iteration to the next, and the update that an iteration makes to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.errors import CorruptFileError
from engine.matching import MatchingGradient
from engine.settings import Settings
from engine.storage.untrusted import whole_number
from engine.training import labels as label_rules
from engine.training.divergence import DivergenceMonitor
from engine.training.real_images import initial_images
from engine.training.task import Task

MOST_CHANGE = 0.1
"""student_lr changes by at most a factor exp(0.1) an iteration."""

MOST_LEARNED = 1000.0
"""student_lr is learned within this factor of its initial value: near zero a student does not move, and
nothing is left to learn from."""

CHUNK = 2**20
"""Numbers of an update that are checked together before it is applied."""


@dataclass
class DistillState:
    """Everything that is carried from one iteration to the next; a checkpoint holds exactly this."""

    images: Tensor
    """`(N, C, H, W)` in the input space, ordered by class."""
    student_lr: Tensor
    """Positive scalar."""
    logits: Tensor | None
    """Learned labels `(N, K)`, as logits or, with `labels.parameters = probabilities`, as those; None for the other
    kinds."""
    velocity_images: Tensor
    velocity_student_lr: Tensor
    velocity_logits: Tensor | None
    iteration: int = 0
    """Iterations complete."""
    health: DivergenceMonitor = field(default_factory=DivergenceMonitor)
    """How it has been doing: decides what happens when numbers go wrong."""
    labels: Tensor | None = None
    """Soft labels `(N, K)` of the last iteration, for pictures; not carried. None while labels are hard. Of an imported
    set the labels that came with it."""

    @property
    def good(self) -> int:
        """Iteration of the checkpoint to go back to."""
        return self.health.good

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint file."""
        found = {
            "images": self.images, "student_lr": self.student_lr, "logits": self.logits,
            "velocity_images": self.velocity_images, "velocity_student_lr": self.velocity_student_lr,
            "velocity_logits": self.velocity_logits,
        }  # fmt: skip
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def counters(self) -> dict[str, Any]:
        """For a checkpoint's record."""
        return {"iteration": self.iteration, **self.health.record()}

    def count(self, counters: Mapping[str, Any]) -> None:
        """Take the values from `counters` of another state."""
        self.iteration = counters["iteration"]
        self.health = DivergenceMonitor.of(counters)


def initial_state(task: Task, images: Tensor | None = None, logits: Tensor | None = None) -> DistillState:
    """The state before iteration 1; with the images and learned labels that a teacher chose, if it did."""
    settings = task.settings
    images = initial_images(task) if images is None else images
    student_lr = torch.tensor(settings.distill.student_lr, dtype=task.dtype, device=task.device)
    if settings.labels.kind == "learned" and logits is None:
        index = label_rules.class_index(task.classes, settings.distill.ipc, task.device)
        initial = label_rules.hard_labels if label_rules.are_raw(settings) else label_rules.initial_logits
        logits = initial(index, task.classes, task.dtype)
    return DistillState(
        images=images,
        student_lr=student_lr,
        logits=logits,
        velocity_images=torch.zeros_like(images),
        velocity_student_lr=torch.zeros_like(student_lr),
        velocity_logits=None if logits is None else torch.zeros_like(logits),
    )


def restore_state(tensors: dict[str, Tensor], counters: Mapping[str, Any], task: Task) -> DistillState:
    """The state in a checkpoint.

    Raises:
        CorruptFileError: it is whole, but not of this dataset and these settings.
    """
    _check_fits(tensors, counters, task)
    there = {name: tensor.to(task.device, task.dtype) for name, tensor in tensors.items()}
    state = DistillState(
        images=there["images"],
        student_lr=there["student_lr"],
        logits=there.get("logits"),
        # An imported set never moved; its zeros take no memory.
        velocity_images=there.get("velocity_images", torch.zeros_like(there["student_lr"]).expand_as(there["images"])),
        velocity_student_lr=there.get("velocity_student_lr", torch.zeros_like(there["student_lr"])),
        velocity_logits=there.get("velocity_logits"),
        labels=there.get("labels"),
    )
    state.count(counters)
    return state


def _check_fits(tensors: dict[str, Tensor], counters: Mapping[str, Any], task: Task) -> None:
    count = task.classes * task.settings.distill.ipc
    images, logits = (count, *task.image_shape), (count, task.classes)
    wanted: dict[str, tuple[int, ...]] = {"images": images, "student_lr": ()}
    if task.settings.labels.kind == "given":
        wanted |= {"labels": logits}
    else:
        wanted |= {"velocity_images": images, "velocity_student_lr": ()}
    if task.settings.labels.kind == "learned":
        wanted |= {"logits": logits, "velocity_logits": logits}
    for name, shape in wanted.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != shape or not found.is_floating_point():
            what = "nothing" if found is None else f"{found.dtype} of shape {tuple(found.shape)}"
            raise CorruptFileError(
                f"The checkpoint has {what} for {name}; this dataset and these settings need shape {shape}.", _FOREIGN
            )
    for name in ("iteration", "skipped", "recoveries", "seen", "good", "rows"):
        if name in (*_ALWAYS, *counters) and (not whole_number(counters.get(name)) or counters[name] < 0):
            raise CorruptFileError(f"The checkpoint's record has no count of {name}.", _FOREIGN)


_ALWAYS = ("iteration", "skipped", "recoveries")
"""Counts that records of every version have."""

_FOREIGN = "Was it copied from another run? Move it away with its .json; an older checkpoint is used if there is one."


def update(state: DistillState, gradient: MatchingGradient, logit_gradient: Tensor | None, settings: Settings) -> None:
    """SGD with momentum on images, labels and student_lr; the iteration is complete after it."""
    momentum = settings.distill.momentum
    state.velocity_images.mul_(momentum).add_(gradient.images)
    state.images.sub_(state.velocity_images, alpha=settings.distill.lr_images)
    state.velocity_student_lr.mul_(momentum).add_(gradient.student_lr)
    state.student_lr.copy_(next_student_lr(state.student_lr, state.velocity_student_lr, settings))
    if state.logits is not None and state.velocity_logits is not None and logit_gradient is not None:
        state.velocity_logits.mul_(settings.label_momentum).add_(logit_gradient)
        state.logits.sub_(state.velocity_logits, alpha=settings.labels.lr)
    state.iteration += 1


def next_student_lr(student_lr: Tensor, velocity: Tensor, settings: Settings) -> Tensor:
    """student_lr after a step with this velocity, a scalar.

    It takes the published step d = -lr * velocity as a factor, beta <- beta * exp(d / beta), which is beta + d to first
    order and can reach neither zero nor infinity; the exponent is held within +-0.1, and beta within a factor of 1000
    of its initial value.
    """
    step = -settings.distill.lr_student_lr * velocity
    changed = student_lr * (step / student_lr).clamp(-MOST_CHANGE, MOST_CHANGE).exp()
    # Where a recovery has put it outside, it is not pulled back in at once.
    begun = settings.distill.student_lr
    return changed.clamp(student_lr.clamp(max=begun / MOST_LEARNED), student_lr.clamp(min=begun * MOST_LEARNED))


def outcome(
    state: DistillState, gradient: MatchingGradient, logit_gradient: Tensor | None, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """What `update` would do, on the device: the largest pixel and logit, and student_lr's velocity. NaN comes through.

    A finite gradient is not enough: times a large learning rate, or with the momentum of the ones before, it overflows.
    """
    momentum = settings.distill.momentum
    pixel = _largest(state.images, state.velocity_images, gradient.images, momentum, settings.distill.lr_images)
    logit = torch.zeros_like(pixel)
    if state.logits is not None and state.velocity_logits is not None and logit_gradient is not None:
        parts = state.logits, state.velocity_logits, logit_gradient
        logit = _largest(*parts, settings.label_momentum, settings.labels.lr)
    return pixel, logit, state.velocity_student_lr * momentum + gradient.student_lr


def _largest(values: Tensor, velocity: Tensor, gradient: Tensor, momentum: float, lr: float) -> Tensor:
    """The largest absolute value after a step of SGD; in chunks, as the images may fill the device."""
    largest = values.new_zeros(())
    rows = max(1, CHUNK // values[0].numel())
    for parts in zip(values.split(rows), velocity.split(rows), gradient.split(rows), strict=True):
        moved = parts[0].sub((parts[1] * momentum).add_(parts[2]), alpha=lr)
        low, high = torch.aminmax(moved)
        largest = torch.maximum(largest, torch.maximum(-low, high))
        if moved.device.type == "mps":  # where the extremes may lose a NaN; a sum does not
            largest = largest + 0 * moved.sum()
    return largest

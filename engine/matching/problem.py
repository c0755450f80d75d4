"""What the sweeps start from, a checked matching problem, and what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from engine.matching.arguments import check_augmented, check_model, check_schedule, check_tensors
from engine.matching.draws import Draws
from engine.matching.parameter_store import STORES
from engine.matching.rank_shares import WHOLE, Whole
from engine.matching.steps import Derivatives, EagerSteps, Steps
from engine.networks.flat import FlatNetwork

Mode = Literal["exact", "paper", "unrolled"]
MODES = ("exact", "paper", "unrolled")

Schedule = Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]
"""T pairs `(index, augment)`: a LongTensor `(B,)` into the images, and a function of the batch.

An augmentation may draw from PyTorch's, Python's or NumPy's global generator: it draws the same in every sweep.
"""


@dataclass(frozen=True)
class MatchingGradient:
    """The matching loss and its gradients, detached, on the device of the images."""

    loss: Tensor
    """L, a scalar."""
    images: Tensor
    """dL/dimages `(N, C, H, W)`."""
    labels: Tensor
    """dL/dlabels `(N, K)`, with respect to probabilities."""
    student_lr: Tensor
    """dL/dbeta, a scalar."""


@dataclass(frozen=True)
class Problem:
    """One matching problem: everything the sweeps read."""

    steps: Steps
    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    student_lr: Tensor
    schedule: Schedule
    shares: Whole = WHOLE
    seed: int | None = None

    @cached_property
    def draws(self) -> Draws:
        """What the student and the augmentations draw."""
        return Draws(self.steps.network.model, self.images.device, self.seed)

    def augmented(self, step: int, chosen: Tensor) -> Tensor:
        """What the augmentation of a step makes of its images `(B, C, H, W)`."""
        version = chosen._version
        with self.draws.at("augment", step):
            found = self.schedule[step][1](chosen)
        check_augmented(step, chosen, found, changed=chosen._version != version)
        return found

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The augmented images and labels of a step, without a graph."""
        index, _ = self.schedule[step]
        with torch.no_grad():
            return self.augmented(step, self.images[index]), self.labels[index]

    def gradient(self, theta: Tensor, step: int) -> Tensor:
        """g_i `(P,)` of a step, or of this rank's part of it."""
        batch = self.batch(step)
        with self.draws.at("student", step):
            return self.steps.gradient(theta, *batch)

    def first(self, theta: Tensor, step: int) -> Tensor:
        """`advance`, when the step is visited for the first time."""
        return self._stepped(theta, step, self.draws.watched(step, lambda: self.gradient(theta, step)))

    def advance(self, theta: Tensor, step: int) -> Tensor:
        """The student step theta_{i+1} = theta_i - beta g_i."""
        return self._stepped(theta, step, self.gradient(theta, step))

    def _stepped(self, theta: Tensor, step: int, gradient: Tensor) -> Tensor:
        return torch.addcmul(theta, self.shares.vector(step, gradient), self.student_lr, value=-1)

    def derivatives(
        self, theta: Tensor, step: int, batch: tuple[Tensor, Tensor], adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """See `Steps.derivatives`, for the augmented batch of that step."""
        with self.draws.at("student", step):
            found = self.steps.derivatives(theta, *batch, adjoint, hessian=hessian)
        return self.shares.derivatives(step, found)

    def loss_and_adjoint(self, end: Tensor) -> tuple[Tensor, Tensor]:
        """L and dL/dtheta_T at theta_T."""
        difference = end - self.target
        scale = (self.start - self.target).square().sum()
        return difference.square().sum() / scale, difference * (2 / scale)


def checked_problem(
    model: nn.Module | FlatNetwork | Steps,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    student_lr: Tensor | float,
    schedule: Schedule,
    mode: str,
    store: str,
    shares: Whole = WHOLE,
    seed: int | None = None,
) -> Problem:
    """The problem that the arguments of `matching_gradient` describe, detached from any graph.

    Nothing on a device is read: see `check_values` for what needs it.

    Raises:
        ValueError: see `matching_gradient`; `unrolled` with batches that are not whole.
    """
    check_model(model)
    if isinstance(model, nn.Module):
        model = FlatNetwork(model)
    steps: Steps = EagerSteps(model) if isinstance(model, FlatNetwork) else model
    network = steps.network
    if mode == "unrolled" and shares is not WHOLE:
        raise ValueError("mode = unrolled needs whole batches.")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}.")
    if store not in STORES:
        raise ValueError(f"store must be one of {', '.join(STORES)}; got {store!r}.")
    check_tensors(network, start, target, images, labels, student_lr)
    check_schedule(schedule, images)
    return Problem(
        steps=steps,
        start=start.detach(),
        target=target.detach(),
        images=images.detach(),
        labels=labels.detach(),
        student_lr=torch.as_tensor(student_lr, dtype=start.dtype, device=start.device).detach().clone(),
        schedule=schedule,
        shares=shares,
        seed=seed,
    )

"""What the sweeps start from, a checked matching problem, and what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from engine.matching.parameter_store import STORES
from engine.matching.rank_shares import WHOLE, Whole
from engine.matching.steps import EagerSteps, Steps
from engine.networks.dropout import has_dropout
from engine.networks.flat import FlatNetwork

Mode = Literal["exact", "paper", "unrolled"]
MODES = ("exact", "paper", "unrolled")

Schedule = Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]
"""T pairs `(index, augment)`: a LongTensor `(B,)` into the images and a deterministic, replayable augmentation."""


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

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The augmented images and labels of a step, without a graph."""
        index, augment = self.schedule[step]
        with torch.no_grad():
            return augment(self.images[index]), self.labels[index]

    def advance(self, theta: Tensor, step: int) -> Tensor:
        """The student step theta_{i+1} = theta_i - beta g_i."""
        gradient = self.shares.vector(step, self.steps.gradient(theta, *self.batch(step)))
        return torch.addcmul(theta, gradient, self.student_lr, value=-1)

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
) -> Problem:
    """The problem that the arguments of `matching_gradient` describe, detached from any graph.

    Raises:
        ValueError: see `matching_gradient`; `unrolled` with batches that are not whole; dropout in training mode.
    """
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
    if mode != "unrolled" and network.model.training and has_dropout(network.model):
        raise ValueError(
            "The model has dropout, so two sweeps would not see the same function. Call model.eval(), or use mode = "
            "unrolled, which passes once."
        )
    if not schedule:
        raise ValueError("The schedule is empty: matching needs at least one student step.")
    for name, vector in (("start", start), ("target", target)):
        if vector.shape != (network.size,):
            raise ValueError(f"{name} has shape {tuple(vector.shape)}; the model needs ({network.size},).")
    if images.ndim != 4 or labels.ndim != 2 or len(images) != len(labels):
        raise ValueError(
            f"images must be (N, C, H, W) and labels (N, K); got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    return Problem(
        steps=steps,
        start=start.detach(),
        target=target.detach(),
        images=images.detach(),
        labels=labels.detach(),
        student_lr=torch.as_tensor(student_lr, dtype=start.dtype, device=start.device).detach(),
        schedule=schedule,
        shares=shares,
    )

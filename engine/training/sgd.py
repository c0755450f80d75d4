"""One SGD step of a network in training: teachers and evaluations take thousands of them.

    g = dloss/dtheta + weight_decay theta ;  velocity = momentum velocity + g ;  theta = theta - lr velocity

A sharpness-aware step (`gsam.py`) puts another direction, made of two gradients, in the place of dloss/dtheta.

Two ways: PyTorch's module and optimiser (`EagerTrainer`), and the whole step, forward, backward and update, as one
compiled function of the flat parameter vector (`CompiledTrainer`). Compiled steps are compared with `sgd_step`, the
formula as it is written here, before they are used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd

from engine.matching.compiled import REPLAYS, CpuKernels, contiguous, fused, in_words, other_numbers
from engine.matching.graphs import Memory, Replayed, launch_bound
from engine.matching.tolerance import disagreement, tolerance
from engine.networks.flat import FlatNetwork, flatten_parameters, in_memory_order, load_parameters
from engine.runtime.device import takes_tf32, without_tf32
from engine.training.gsam import ascent, flat_direction

TF32_TOLERANCE = 1e-2
"""Relative difference that is allowed in TF32, whose rounding hides everything finer."""


@dataclass(frozen=True)
class SgdRule:
    """What an update does besides following the gradient."""

    momentum: float = 0.0
    weight_decay: float = 0.0
    rho: float = 0.0
    """Radius of a sharpness-aware step (GSAM); 0: a plain step."""
    alpha: float = 0.0
    """Share of the plain gradient's perpendicular part that a sharpness-aware step takes away."""

    @property
    def gradients(self) -> int:
        """Gradients that a step costs."""
        return 2 if self.rho else 1


class Stepped(NamedTuple):
    """The result of one SGD step."""

    theta: Tensor
    """`(P,)` after the step."""
    velocity: Tensor
    """`(P,)` after the step."""
    loss: Tensor
    """Mean cross-entropy of the batch before the step, a scalar."""
    logits: Tensor
    """`(B, K)` before the step."""


Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Stepped]
"""`(theta, velocity, images, targets, lr)`: a pure function of tensors."""


def sgd_step(network: FlatNetwork, rule: SgdRule) -> Step:
    """The step as a pure function.

    Its arguments are theta `(P,)`, velocity `(P,)` (zeros at first), images `(B, C, H, W)`, targets (classes `(B,)` or
    probabilities `(B, K)`) and lr, a scalar tensor.
    """

    def step(theta: Tensor, velocity: Tensor, images: Tensor, targets: Tensor, lr: Tensor) -> Stepped:
        def loss_of(parameters: Tensor) -> tuple[Tensor, Tensor]:
            logits = network(parameters, images)
            return F.cross_entropy(logits, targets), logits

        gradient, (loss, logits) = torch.func.grad_and_value(loss_of, has_aux=True)(theta)
        if rule.rho:
            steep, _ = torch.func.grad(loss_of, has_aux=True)(theta + ascent(theta, gradient, rule.rho))
            gradient = flat_direction(gradient, steep, rule.alpha)
        if rule.weight_decay:
            gradient = gradient + rule.weight_decay * theta
        if rule.momentum:
            velocity = gradient = rule.momentum * velocity + gradient
        return Stepped(theta - lr * gradient, velocity, loss, logits)

    return step


def compiled_step(network: FlatNetwork, rule: SgdRule, cpu_kernels: CpuKernels = "auto") -> Step:
    """`sgd_step` through torch.compile; for batches of one shape."""
    return fused(sgd_step(network, rule), cpu_kernels=cpu_kernels)


def difference(
    network: FlatNetwork, rule: SgdRule, compiled: Step, theta: Tensor, images: Tensor, targets: Tensor
) -> str:
    """What the compiled step gets wrong on a batch, beyond what another order of rounding does; empty if nothing."""
    plain = sgd_step(network, rule)

    def eager(parameters: Tensor) -> dict[str, Tensor]:
        return _everything(plain, parameters, images, targets)

    def exactly(parameters: Tensor) -> dict[str, Tensor]:
        with without_tf32():
            return eager(parameters)

    found = _everything(compiled, theta, contiguous(images), contiguous(targets))
    if takes_tf32(theta):
        return disagreement(eager, found, theta, TF32_TOLERANCE, exactly)
    return disagreement(eager, found, theta, tolerance(theta.dtype))


def recorded_step(
    network: FlatNetwork, rule: SgdRule, compiled: Step, theta: Tensor, images: Tensor, targets: Tensor
) -> tuple[Step, str]:
    """The compiled step as a CUDA graph where that saves time and gives the same; and the reason if it does not."""
    if not launch_bound(images):
        return compiled, ""
    replayed = Replayed(compiled, Memory())

    def step(*arguments: Tensor) -> Stepped:
        # Copies: theta and velocity are kept from step to step, and another network may take the next one.
        return Stepped(*[result.clone() for result in replayed(*arguments)])

    try:
        problem = ""
        for call in range(REPLAYS):
            changed, (batch,) = other_numbers(theta, [(images, targets)], call)
            problem = problem or difference(network, rule, step, changed, *batch)
    except Exception as error:  # PyTorch's have no common base; and where memory runs out, the recording holds it
        problem = in_words(error)
    return (compiled, f"CUDA graphs are not used: {problem}") if problem else (step, "")


@torch.no_grad()
def _everything(step: Step, theta: Tensor, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """All that a step from rest computes, by name; with lr 1, so that the update is not lost in theta's rounding."""
    found = step(theta, torch.zeros_like(theta), images, targets, torch.ones((), dtype=theta.dtype).to(theta.device))
    results = {"update": found.theta - theta, "velocity": found.velocity, "loss": found.loss, "logits": found.logits}
    return {f"{name} of a training step": result for name, result in results.items()}


class Trainer(Protocol):
    """A network in training; theta and velocity are its state."""

    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """One SGD step on a batch; its loss (a scalar) and logits `(B, K)`, detached and on the device."""

    def theta(self) -> Tensor:
        """The parameters `(P,)`, a copy."""

    def load(self, theta: Tensor) -> None:
        """Continue from other parameters `(P,)`; the velocity stays."""

    def rest(self) -> None:
        """Set the velocity to zero, where a new optimiser begins."""


class EagerTrainer:
    """`Trainer` by autograd and PyTorch's SGD, on the module's own parameters (and buffers).

    The functional form: the first `torch.optim.SGD` of a process imports all of PyTorch's compiler, a second or more.

    Raises:
        ValueError: a sharpness-aware rule, which needs the function of a flat vector: see `eager_trainer`.
    """

    def __init__(self, model: nn.Module, rule: SgdRule) -> None:
        if rule.rho:
            raise ValueError("EagerTrainer takes plain steps only; eager_trainer chooses.")
        self._model = model
        self._rule = rule
        self._parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.rest()

    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """See `Trainer`."""
        logits: Tensor = self._model(in_memory_order(images))
        loss = F.cross_entropy(logits, targets)
        gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        with torch.no_grad():
            sgd(
                self._parameters, list(gradients), self._velocities, lr=lr, momentum=self._rule.momentum,
                weight_decay=self._rule.weight_decay, dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
        return loss.detach(), logits.detach()

    def theta(self) -> Tensor:
        """See `Trainer`."""
        return flatten_parameters(self._model)

    def load(self, theta: Tensor) -> None:
        """See `Trainer`."""
        load_parameters(self._model, theta)

    def rest(self) -> None:
        """See `Trainer`."""
        self._velocities: list[Tensor | None] = [None] * len(self._parameters)


class CompiledTrainer:
    """`Trainer` on a flat vector, with a compiled step for some batch sizes and the plain one for the others.

    Args:
        network: its shape.
        theta: `(P,)` to start from.
        rule: of the update.
        steps: compiled steps by batch size.
    """

    def __init__(self, network: FlatNetwork, theta: Tensor, rule: SgdRule, steps: Mapping[int, Step]) -> None:
        self._theta = theta.clone()
        self._velocity = torch.zeros_like(theta)
        self._steps = steps
        self._plain = sgd_step(network, rule)
        self._lr = torch.zeros((), dtype=theta.dtype, device=theta.device)
        self._lr_value = 0.0

    @torch.no_grad()
    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """See `Trainer`."""
        if lr != self._lr_value:
            self._lr_value = lr
            self._lr = torch.full_like(self._lr, lr)
        step = self._steps.get(len(images), self._plain)
        self._theta, self._velocity, loss, logits = step(
            self._theta, self._velocity, contiguous(images), contiguous(targets), self._lr
        )
        return loss, logits

    def theta(self) -> Tensor:
        """See `Trainer`."""
        return self._theta.clone()

    def load(self, theta: Tensor) -> None:
        """See `Trainer`."""
        self._theta = theta.clone()

    def rest(self) -> None:
        """See `Trainer`."""
        self._velocity = torch.zeros_like(self._velocity)


def eager_trainer(model: nn.Module, rule: SgdRule) -> Trainer:
    """A trainer that compiles nothing.

    The second gradient of a sharpness-aware step is taken at other parameters, which must leave the module's running
    statistics alone; `FlatNetwork` does.
    """
    if not rule.rho:
        return EagerTrainer(model, rule)
    return CompiledTrainer(FlatNetwork(model), flatten_parameters(model), rule, {})

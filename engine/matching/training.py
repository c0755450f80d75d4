"""One SGD step of a network in training: teachers and evaluations take thousands of the same.

    g = dloss/dtheta + weight_decay theta ;  velocity = momentum velocity + g ;  theta = theta - lr velocity

Two ways: PyTorch's module and optimiser (`EagerTrainer`), and the whole step, forward, backward and update, as one
compiled function of the flat parameter vector (`CompiledTrainer`). Compiled steps are compared with `sgd_step`, the
formula as it is written here, before they are used.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.matching.compiled import MOST, SHAKE, SHAKEN, TOLERANCE, fused, packed
from engine.networks.flat import FlatNetwork, flatten_parameters, load_parameters


@dataclass(frozen=True)
class SgdRule:
    """What an update does besides following the gradient."""

    momentum: float = 0.0
    weight_decay: float = 0.0


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
        if rule.weight_decay:
            gradient = gradient + rule.weight_decay * theta
        if rule.momentum:
            velocity = gradient = rule.momentum * velocity + gradient
        return Stepped(theta - lr * gradient, velocity, loss, logits)

    return step


def compiled_step(network: FlatNetwork, rule: SgdRule) -> Step:
    """`sgd_step` through torch.compile; for batches of one shape."""
    step = sgd_step(network, rule)
    assert isinstance(step, types.FunctionType)
    # torch.compile counts recompilations by code object and gives up at the eighth; every network has its own.
    own = types.FunctionType(step.__code__.replace(), step.__globals__, step.__name__, None, step.__closure__)
    return fused(own)


def difference(
    network: FlatNetwork, rule: SgdRule, compiled: Step, theta: Tensor, images: Tensor, targets: Tensor
) -> str:
    """What the compiled step gets wrong on a batch, beyond rounding; empty if nothing."""
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=theta.dtype).to(theta.device)
    shaken = theta * (1 + SHAKE.get(theta.dtype, 1e-6) * noise)
    wanted = _everything(sgd_step(network, rule), theta, images, targets)
    moved = _everything(sgd_step(network, rule), shaken, images, targets)
    found = _everything(compiled, theta, packed(images), packed(targets))
    for name, a in found.items():
        b = wanted[name]
        size = b.norm().clamp_min(torch.finfo(b.dtype).tiny)
        allowed = ((moved[name] - b).norm() / size).item() * SHAKEN
        error = ((a - b).norm() / size).item()
        if not error <= max(TOLERANCE.get(theta.dtype, 1e-3), min(allowed, MOST)):
            return f"the compiled {name} of a training step differs from eager by {error:.1e} relative"
    return ""


@torch.no_grad()
def _everything(step: Step, theta: Tensor, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """All that a step from rest computes, by name; with lr 1, so that the update is not lost in theta's rounding."""
    found = step(theta, torch.zeros_like(theta), images, targets, torch.ones((), dtype=theta.dtype).to(theta.device))
    return {
        "update": found.theta - theta, "velocity": found.velocity, "loss": found.loss, "logits": found.logits,
    }  # fmt: skip


class Trainer(Protocol):
    """A network in training; theta and velocity are its state."""

    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """One SGD step on a batch; its loss (a scalar) and logits `(B, K)`, detached and on the device."""

    def theta(self) -> Tensor:
        """The parameters `(P,)`, a copy."""

    def load(self, theta: Tensor) -> None:
        """Go on from other parameters `(P,)`; the velocity stays."""


class EagerTrainer:
    """`Trainer` by autograd and `torch.optim.SGD`, on the module's own parameters (and buffers)."""

    def __init__(self, model: nn.Module, rule: SgdRule) -> None:
        self._model = model
        self._optimiser = torch.optim.SGD(
            model.parameters(), lr=0.0, momentum=rule.momentum, weight_decay=rule.weight_decay
        )

    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """See `Trainer`."""
        self._optimiser.param_groups[0]["lr"] = lr
        logits: Tensor = self._model(images)
        loss = F.cross_entropy(logits, targets)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach(), logits.detach()

    def theta(self) -> Tensor:
        """See `Trainer`."""
        return flatten_parameters(self._model)

    def load(self, theta: Tensor) -> None:
        """See `Trainer`."""
        load_parameters(self._model, theta)


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
            self._theta, self._velocity, packed(images), packed(targets), self._lr
        )
        return loss, logits

    def theta(self) -> Tensor:
        """See `Trainer`."""
        return self._theta.clone()

    def load(self, theta: Tensor) -> None:
        """See `Trainer`."""
        self._theta = theta.clone()

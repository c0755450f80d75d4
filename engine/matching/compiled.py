"""The two step functions fused by torch.compile: whole functions that contain the `torch.func` transforms.

Double backward of a compiled graph is not supported by PyTorch; compiling the function that *does* the double backward
is. Miscompilations are silent where they happen, so `checked_steps` compares with eager before it hands anything out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.matching.steps import Derivatives, EagerSteps, Steps, student_loss
from engine.networks.flat import FlatNetwork

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Largest relative difference between compiled and eager results."""


class CompiledSteps:
    """`Steps` through torch.compile with static shapes; the first call of every batch size compiles."""

    def __init__(self, network: FlatNetwork) -> None:
        self.network = network
        self._gradient = torch.compile(self._gradient_function(), dynamic=False, fullgraph=True)
        self._derivatives = {
            hessian: torch.compile(self._derivatives_function(hessian), dynamic=False, fullgraph=True)
            for hessian in (True, False)
        }

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """See `Steps`."""
        found: Tensor = self._gradient(theta, images, labels)
        return found

    def derivatives(
        self, theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """See `Steps`."""
        gradient, *found = self._derivatives[hessian](theta, images, labels, adjoint)
        return Derivatives(gradient, found[0], found[1], found[2] if hessian else None)

    def _gradient_function(self) -> Callable[..., Tensor]:
        network = self.network

        def gradient(theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
            found: Tensor = torch.func.grad(lambda t: student_loss(network, t, images, labels))(theta)
            return found

        return gradient

    def _derivatives_function(self, hessian: bool) -> Callable[..., tuple[Tensor, ...]]:
        gradient_of = self._gradient_function()

        def along(images: Tensor, labels: Tensor, theta: Tensor, adjoint: Tensor) -> tuple[Tensor, Tensor]:
            gradient = gradient_of(theta, images, labels)
            return torch.dot(gradient, adjoint), gradient

        def derivatives(theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor) -> tuple[Tensor, ...]:
            wanted = (0, 1, 2) if hessian else (0, 1)
            found, gradient = torch.func.grad(along, argnums=wanted, has_aux=True)(images, labels, theta, adjoint)
            return (gradient, *found)

        return derivatives


def checked_steps(
    network: FlatNetwork, theta: Tensor, images: Tensor, labels: Tensor, *, hessian: bool
) -> tuple[Steps, str]:
    """Compiled steps that agree with eager on this batch, or eager steps and the reason why not.

    Args:
        network: the student.
        theta: `(P,)`.
        images: a batch of the shape the run will use.
        labels: its probabilities.
        hessian: whether the run needs Hessian-vector products.
    """
    eager = EagerSteps(network)
    adjoint = eager.gradient(theta, images, labels)
    wanted = eager.derivatives(theta, images, labels, adjoint, hessian=hessian)
    try:
        compiled = CompiledSteps(network)
        found = (
            compiled.gradient(theta, images, labels),
            *compiled.derivatives(theta, images, labels, adjoint, hessian=hessian),
        )
    except Exception as error:  # the compiler's own errors have no common base, and none of them may end a run
        return eager, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    for name, a, b in zip(("first-order gradient", *Derivatives._fields), found, (adjoint, *wanted), strict=True):
        if a is None or b is None:
            continue
        error_size = ((a - b).norm() / b.norm().clamp_min(torch.finfo(b.dtype).tiny)).item()
        if not error_size <= TOLERANCE.get(theta.dtype, 1e-3):
            return eager, f"the compiled {name} differs from eager by {error_size:.1e} relative"
    return compiled, ""

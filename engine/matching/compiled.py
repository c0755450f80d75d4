"""The two step functions fused by torch.compile: whole functions that contain the `torch.func` transforms.

Double backward of a compiled graph is not supported by PyTorch; compiling the function that *does* the differentiating
is. `s = <g, lam>` is the derivative of the loss along lam, so forward mode gives it in 3F, and one reverse sweep over
that gives everything else: 8F with ds/dtheta, where a double backward takes 9F. Where a network has an operation
without forward mode, the double backward is compiled instead.

A miscompilation is silent, so `checked_steps` compares with eager before it returns compiled steps, and so it does with
CUDA graphs. Compiled graphs also use tesla's CPU kernels, through the graph pass of `cpu/`; nothing else imports that
package.
"""

import copy
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from engine.matching.draws import draws_random
from engine.matching.graphs import Memory, Replayed, launch_bound
from engine.matching.steps import Derivatives, EagerSteps, Steps, student_loss
from engine.matching.tolerance import disagreement, tolerance
from engine.networks.flat import FlatNetwork
from engine.runtime.compiler_cache import use_cache
from engine.runtime.device import takes_tf32, without_tf32
from engine.runtime.out_of_memory import is_out_of_memory

SECOND_ORDER = 10.0
"""How many times the yardstick's tolerance is allowed here: second derivatives feel the signs under ReLUs more."""

COARSE_TOLERANCE = 5e-2
"""Relative difference that is allowed where products are in bfloat16 or TF32, whose rounding hides everything finer."""

REPLAYS = 3
"""Calls of recorded steps that are compared with eager, each with other numbers."""

UNCOMPILED = "torch.compile is not used: the network draws random numbers (dropout?), which eager steps replay"

CpuKernels = Literal["auto", "off"]
"""The setting `compute.cpu_kernels`."""

Batch = tuple[Tensor, Tensor]
"""Images `(B, C, H, W)` and label probabilities `(B, K)`."""


class CompiledSteps:
    """`Steps` through torch.compile with static shapes; the first call of every batch size compiles.

    Args:
        network: the student.
        hessian: made for sweeps that need Hessian-vector products (`exact`); else for sweeps that step with g
            (`paper`). `derivatives` always gives what it was made for: one graph for a whole run.
        forward: reverse over forward; False for reverse over reverse.
        cpu_kernels: see `fused`.
    """

    def __init__(
        self,
        network: FlatNetwork,
        *,
        hessian: bool,
        forward: bool = True,
        cpu_kernels: CpuKernels = "auto",
    ) -> None:
        self.network = network
        self.hessian = hessian
        self._gradient = fused(_gradient_function(network), cpu_kernels=cpu_kernels)
        along = _along_forward(network) if forward else _along_reverse(network)
        # ds/dlam is g: s is linear in lam.
        wanted = (0, 1, 2) if hessian else (0, 1, 3)
        derivatives = torch.func.grad_and_value(along, argnums=wanted)
        self._derivatives = fused(derivatives, cpu_kernels=cpu_kernels)

    def rows(self, batch: int) -> int:
        """See `Steps`."""
        return batch

    @torch.no_grad()
    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """See `Steps`."""
        found: Tensor = self._gradient(theta, contiguous(images), contiguous(labels))
        return found

    @torch.no_grad()
    def derivatives(
        self, theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """See `Steps`. In the one step of a run that asks for less than this was made for, the rest is ignored.

        Raises:
            ValueError: Hessian-vector products from steps that were not made for them.
        """
        if hessian and not self.hessian:
            raise ValueError("These steps were compiled without Hessian-vector products.")
        (by_images, by_labels, last), along = self._derivatives(contiguous(images), contiguous(labels), theta, adjoint)
        if self.hessian:
            return Derivatives(along, by_images, by_labels, theta=last if hessian else None)
        return Derivatives(along, by_images, by_labels, gradient=last)

    def replayed(self) -> "CompiledSteps":
        """The same steps as CUDA graphs. A result is overwritten by the next call; the sweeps use each at once."""
        steps = copy.copy(self)
        memory = Memory()
        steps._gradient, steps._derivatives = (Replayed(f, memory) for f in (self._gradient, self._derivatives))
        return steps


def fused(function: Callable[..., Any], *, cpu_kernels: CpuKernels = "auto") -> Callable[..., Any]:
    """The function through torch.compile, as one graph of static shapes.

    Args:
        function: of tensors.
        cpu_kernels: `auto` rewrites the graph with tesla's pass; `off` leaves it as PyTorch makes it. The compiler's
            cache tells the two apart by the pass's `uuid`.
    """
    from engine.matching.spelled import SpelledLayers  # loads the compiler, which eager code does not need

    use_cache()
    options: dict[str, Any] = {
        "guard_filter_fn": _changeable,
        "size_asserts": False,  # of intermediate results, at every call: the steps are checked as a whole at start
        "pre_grad_custom_pass": SpelledLayers(),
    }
    if cpu_kernels == "auto":
        from engine.matching.cpu.fx_pass import LeanConvolutions

        options["post_grad_custom_pre_pass"] = LeanConvolutions()

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    # torch.compile counts recompilations by code object and gives up at the eighth; every function has its own.
    own = types.FunctionType(call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__)
    compiled: Callable[..., Any] = torch.compile(own, dynamic=False, fullgraph=True, options=options)
    return compiled


def _changeable(guards: Sequence[Any]) -> list[bool]:
    """Which of the compiler's guards to check at every call: those of arguments and of PyTorch's own state.

    The other six hundred look at the network and at modules, which do not change during a run; checking them takes
    0.2 ms, a twentieth of a small step.
    """
    return [not guard.name or "arguments" in guard.name for guard in guards]


def contiguous(tensor: Tensor) -> Tensor:
    """The same numbers in the only memory order the graphs were compiled for: an augmentation may return any."""
    if tensor.stride() == torch.empty(tensor.shape, device="meta").stride():
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _gradient_function(network: FlatNetwork) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def gradient(theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = torch.func.grad(lambda t: student_loss(network, t, images, labels))(theta)
        return found

    return gradient


def _along_forward(network: FlatNetwork) -> Callable[..., Tensor]:
    def along(images: Tensor, labels: Tensor, theta: Tensor, adjoint: Tensor) -> Tensor:
        found: Tensor = torch.func.jvp(lambda t: student_loss(network, t, images, labels), (theta,), (adjoint,))[1]
        return found

    return along


def _along_reverse(network: FlatNetwork) -> Callable[..., Tensor]:
    gradient_of = _gradient_function(network)

    def along(images: Tensor, labels: Tensor, theta: Tensor, adjoint: Tensor) -> Tensor:
        return torch.dot(gradient_of(theta, images, labels), adjoint)

    return along


def checked_steps(
    network: FlatNetwork,
    theta: Tensor,
    batches: Sequence[Batch],
    *,
    hessian: bool,
    cpu_kernels: CpuKernels = "auto",
) -> tuple[Steps, str]:
    """Compiled steps that agree with eager on these batches, or eager steps; and what is not used and why, or "".

    Args:
        network: the student.
        theta: `(P,)`.
        batches: one of every size the run will use, so that nothing compiles later.
        hessian: whether the run needs Hessian-vector products.
        cpu_kernels: see `fused`.
    """
    eager = EagerSteps(network)
    if draws_random(network, theta, batches[0][0]):
        return eager, UNCOMPILED
    for forward in (True, False):
        try:
            compiled = CompiledSteps(network, hessian=hessian, forward=forward, cpu_kernels=cpu_kernels)
            problem = _problem(compiled, theta, batches)
        except Exception as error:  # the compiler's own errors have no common base, and none of them may end a run
            if is_out_of_memory(error):
                raise  # eager steps take no less; smaller parts do
            problem = in_words(error)
        if not problem:
            return _recorded(compiled, theta, batches)
    return eager, f"torch.compile is not used: {problem}"


def _recorded(compiled: CompiledSteps, theta: Tensor, batches: Sequence[Batch]) -> tuple[Steps, str]:
    """The steps as CUDA graphs where that saves time and gives the same, and the reason if it does not."""
    if not all(launch_bound(images) for images, _ in batches):
        return compiled, ""
    replayed = compiled.replayed()
    try:
        problem = ""
        for call in range(REPLAYS):
            problem = problem or _problem(replayed, *other_numbers(theta, batches, call))
    except Exception as error:  # as above; and where memory runs out, it is what the recording holds
        problem = in_words(error)
    return (compiled, f"CUDA graphs are not used: {problem}") if problem else (replayed, "")


def other_numbers(theta: Tensor, batches: Sequence[Batch], call: int) -> tuple[Tensor, list[Batch]]:
    """Parameters and batches of the same shapes with which a step gives something else, at every call."""
    changed = theta * (1 + 0.01 * call)
    return changed, [(images.flip([(1, 2, 3)[call % 3]]) * (1 + 0.1 * call), labels) for images, labels in batches]


def in_words(error: Exception) -> str:
    """The kind of an error and the first line of what it says, if it says anything."""
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0]}" if said else type(error).__name__


def _problem(compiled: CompiledSteps, theta: Tensor, batches: Sequence[Batch]) -> str:
    """What the compiled steps get wrong on the first batch that they get wrong; empty if none."""
    problems = [_difference(compiled, theta, batch) for batch in batches]  # all of them: each compiles a size
    return next(filter(None, problems), "")


def _difference(compiled: CompiledSteps, theta: Tensor, batch: Batch) -> str:
    """What the compiled steps get wrong on a batch; empty if nothing."""
    network, hessian = compiled.network, compiled.hessian
    eager = EagerSteps(network)
    adjoint = eager.gradient(theta, *batch)

    def results(steps: Steps) -> Callable[[Tensor], dict[str, Tensor]]:
        return lambda parameters: _everything(steps, parameters, batch, adjoint, hessian)

    found = results(compiled)(theta)
    if network.bf16 or takes_tf32(theta):
        finer = EagerSteps(FlatNetwork(network.model, loss=network.loss))

        def exactly(parameters: Tensor) -> dict[str, Tensor]:
            with without_tf32():
                return results(finer)(parameters)

        return disagreement(results(eager), found, theta, COARSE_TOLERANCE, exactly)
    return disagreement(results(eager), found, theta, SECOND_ORDER * tolerance(theta.dtype))


def _everything(steps: Steps, theta: Tensor, batch: Batch, adjoint: Tensor, hessian: bool) -> dict[str, Tensor]:
    """All that steps compute on a batch, by name."""
    found = steps.derivatives(theta, *batch, adjoint, hessian=hessian)._asdict()
    found = {name: tensor.clone() for name, tensor in found.items() if tensor is not None}
    return {"first-order gradient": steps.gradient(theta, *batch).clone(), **found}

"""Floating-point operations: how many an iteration needs, and how many a second this machine gives.

Counted are convolutions and matrix products, a multiply and an add as two, on one forward and one backward pass of the
network on the `meta` device (nothing is computed). What the gradient *needs* follows from that, layer by layer, with F
for a forward pass and F1 for the part of it that touches the images:

    g_i, first order          3F - F1           no gradient by the images
    derivatives of <g, lam>   by images and g   7F - 2F1, forward over reverse or reverse over reverse alike
                              by images, theta  8F - 3F1, reverse over forward (no second g_i is wanted)
                              by images only    6F - 2F1

It is what the mathematics needs and not what a program happens to do: replayed steps and convolutions over zeros do
not count, so the share of the peak cannot be raised by wasting. Products of two activations (attention) cost a little
more than this formula, which is exact for layers with weights.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from engine.matching.steps import student_loss
from engine.networks import FlatNetwork, build_network
from engine.runtime.rng import counted_generator
from engine.tools.bench.cases import Configuration, Shape
from engine.tools.bench.measuring import Stopwatch

MATMUL_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sides of the square float32 products that the peak is measured with; other devices as the CPU."""


def forward_flops(shape: Shape) -> tuple[int, int]:
    """(F, F1): a forward pass over a batch, and what a gradient by the images adds to a backward pass."""
    with torch.device("meta"):
        flat = FlatNetwork(build_network(shape.network, **shape.size()))
        theta = torch.empty(flat.size, requires_grad=True)
        images = torch.empty(shape.batch, shape.channels, shape.resolution, shape.resolution, requires_grad=True)
        labels = torch.empty(shape.batch, shape.classes)
    forward = _count(lambda: student_loss(flat, theta, images, labels))
    by_theta = _count(lambda: torch.autograd.grad(student_loss(flat, theta, images, labels), theta))
    by_both = _count(lambda: torch.autograd.grad(student_loss(flat, theta, images, labels), (theta, images)))
    return forward, by_both - by_theta


class CountedFlops(TorchDispatchMode):
    """Adds up the convolutions and matrix products that are called inside the block, by PyTorch's own formulas.

    `FlopCounterMode` would do, but for its module hooks, which cannot see a gradient by the images.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation, and count it."""
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _count(function: Callable[[], object]) -> int:
    counted = CountedFlops()
    with counted:
        function()
    return counted.total


def needed_flops(configuration: Configuration) -> int:
    """Floating-point operations that one iteration of this mode needs."""
    whole, first = forward_flops(configuration.shape)
    steps = configuration.steps
    gradient = 3 * whole - first
    if configuration.mode == "exact":
        # Nothing comes before the first step: no Hessian-vector product there.
        return steps * gradient + (steps - 1) * (8 * whole - 3 * first) + (6 * whole - 2 * first)
    if configuration.mode == "unrolled":
        # The graph of g_i is still there: 6F - 2F1 more to go back through it, less where no theta is wanted.
        return steps * gradient + (steps - 1) * (6 * whole - 2 * first) + (4 * whole - first)
    return steps * (gradient + 7 * whole - 2 * first)


def matmul_flops(device: torch.device, sizes: Sequence[int] | None = None, least: float = 0.1) -> dict[str, float]:
    """Best rate of square float32 matrix products by size, floating-point operations per second.

    Args:
        device: where; the process's switches decide whether CUDA takes TF32.
        sizes: sides; None: `MATMUL_SIZES`.
        least: seconds to repeat each size for.
    """
    found = {}
    sizes = sizes or MATMUL_SIZES.get(device.type, MATMUL_SIZES["cpu"])
    generator = counted_generator(0, "bench-matmul")
    for size in sizes:
        # Random numbers: a processor may clock higher on matrices of ones.
        a, b = (torch.rand(size, size, generator=generator).to(device) for _ in range(2))
        out = torch.empty_like(a)
        _product(a, b, out)
        best, began = float("inf"), time.perf_counter()
        while time.perf_counter() - began < least:
            watch = Stopwatch(device)
            _product(a, b, out)
            best = min(best, watch.seconds())
        found[str(size)] = 2 * size**3 / best
    return found


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    torch.mm(a, b, out=out)

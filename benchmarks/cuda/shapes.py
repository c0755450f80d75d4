"""The shapes of the speed tables, and one iteration of each mode on them. What is compiled here once is found again."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from benchmarks.cuda.check import Check
from engine.matching import Mode, matching_gradient
from engine.networks import build_network
from engine.runtime.rng import forked_global_rng
from engine.tools.bench.cases import PUBLISHED, Configuration, Shape
from engine.tools.bench.iteration import problem
from engine.tools.bench.reference_implementation import reference_gradient, reference_network

SHAPES = {
    "cifar": Shape(depth=3),
    "imagenet": Shape(depth=4, resolution=64, classes=1000),
}
"""ConvNetD3 width 128, 3x32x32, 100 classes, batch 100 (Table 4); ConvNetD4, 3x64x64, 1,000 classes (Table 5)."""

TINY = {
    "cifar": Shape(width=4, depth=2, resolution=8, classes=10, batch=10),
    "imagenet": Shape(width=4, depth=2, resolution=16, classes=10, batch=10),
}


def shape_of(check: Check, name: str) -> Shape:
    """By name, tiny on a CPU."""
    return (TINY if check.tiny else SHAPES)[name]


def inputs_of(check: Check, shape: Shape, steps: int) -> dict[str, Any]:
    """Arguments of an iteration with T = `steps`, all but the model."""
    return problem(Configuration(shape, "exact", steps), check.device)


def model_of(check: Check, shape: Shape, mode: str) -> nn.Module:
    """The student: of PyTorch's own layers for the published loop."""
    make = reference_network if mode == PUBLISHED else build_network
    with forked_global_rng(0):
        return make(shape.network, **shape.size()).to(check.device)


def iteration(model: nn.Module, mode: str, inputs: dict[str, Any], *, compile: bool = False) -> Callable[[], Any]:  # noqa: A002
    """A function of no arguments: the whole gradient of an iteration."""
    if mode == PUBLISHED:
        return lambda: reference_gradient(model, **inputs)
    return lambda: matching_gradient(model, **inputs, mode=cast(Mode, mode), compile=compile)


def other_inputs(inputs: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same problem with other images and another start, so that a replay cannot pass by repeating itself."""
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: torch.Tensor, by: float) -> torch.Tensor:
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        return tensor + by * noise

    return {**inputs, "images": moved(inputs["images"], 0.5), "start": moved(inputs["start"], 0.01)}

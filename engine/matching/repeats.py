"""Refuse a model that gives two results for one input: two sweeps would not see the same function.

Draws are replayed (see draws.py). What is left are models that count their calls, or draw from where `Draws` does not
look. Two forward passes are compared once for a model, in the first call with it; the graph of the second one shows
operations whose second derivative would be wrong or fails.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from engine.matching.derivable import check_derivable, in_words
from engine.matching.problem import Problem
from engine.networks.flat import FlatNetwork
from engine.runtime.out_of_memory import is_out_of_memory

DIFFERENT = 1e-3
"""Relative difference of two passes that rounding cannot explain."""

DIFFERENT_COARSE = 0.05
"""The same in bfloat16 and float16."""

_found: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()
"""The size of the logits of models that repeat, by mode, shape of an image, and shapes of the parameters: a user may
change a layer."""


@torch.no_grad()
def check_repeats(problem: Problem) -> None:
    """See the module.

    Raises:
        ValueError: the model fails for these images and labels, does not repeat, or has no second derivative.
    """
    network = problem.steps.network
    known = _found.setdefault(network.model, {})
    key = (network.model.training, problem.images.shape[1:], *network.shapes)
    if key not in known:
        images = problem.draws.watched(0, lambda: problem.batch(0))[0]
        images = images[: problem.steps.rows(len(images))]

        def forward(theta: Tensor = problem.start, images: Tensor = images) -> Any:
            with problem.draws.at("student", 0):
                return network(theta, images)

        version = images._version
        first = _called(lambda: problem.draws.watched(0, forward), images)
        if images._version != version:
            raise ValueError(
                "model changes its images in place, so the next pass sees others. Let it begin with x = x.clone(), or "
                "with an operation that is not in place."
            )
        if not isinstance(first, Tensor) or first.ndim != 2 or len(first) != len(images):
            what = f"a tensor {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(first).__name__}"
            raise ValueError(
                f"model returns {what} for {len(images)} images; it must return logits ({len(images)}, K)."
            )
        theta = problem.start.detach().requires_grad_()
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            again = _called(lambda: forward(theta, images), images)
            check_derivable(again, theta, images)
        if _differ(first, again.detach()):
            raise ValueError(_words(network, forward))
        known[key] = first.shape[1]
    classes = known[key]
    if problem.labels.shape[1] != classes:
        raise ValueError(
            f"labels has {problem.labels.shape[1]} classes and the model has {classes}. Give (N, {classes})."
        )


def _called(forward: Callable[[], Any], images: Tensor) -> Any:
    """The result of a pass.

    Raises:
        ValueError: the model cannot take the images.
    """
    try:
        return forward()
    except Exception as error:  # a user's class decides what it raises
        if is_out_of_memory(error):
            raise
        shape, said = tuple(images.shape), in_words(error)
        raise ValueError(f"model fails for a batch {shape}, as schedule[0] makes it from images: {said}.") from error


@torch.no_grad()
def check_augmentation(problem: Problem) -> None:
    """Compare two calls of every step's augmentation; what that finds is read from the device once.

    Raises:
        ValueError: they differ, or make numbers that are not finite.
    """
    found = []
    for step in range(len(problem.schedule)):
        # As in the first step, so that Python's and NumPy's generators are watched too.
        first = problem.draws.watched(0, partial(problem.batch, step))[0]
        found.append(torch.stack([first.isfinite().all(), ~_apart(first, problem.batch(step)[0])]))
    for step, (finite, equal) in enumerate(torch.stack(found).tolist()):
        if not finite:
            raise ValueError(f"schedule[{step}]'s augmentation makes numbers that are not finite (NaN or infinity).")
        if not equal:
            raise ValueError(
                f"schedule[{step}]'s augmentation gives two results for one batch, so two sweeps would not see the "
                "same images. Let it draw from PyTorch's global generator, or draw its parameters once, before."
            )


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors differ by more than rounding; not if they are not finite."""
    return bool(_apart(a, b))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """`_differ`, not read from the device."""
    if a.shape != b.shape:
        return torch.ones((), dtype=torch.bool, device=a.device)
    allowed = DIFFERENT_COARSE if a.dtype.itemsize == 2 else DIFFERENT
    return torch.gt((a - b).norm(), allowed * a.norm())


def _words(network: FlatNetwork, forward: Callable[[], Any]) -> str:
    """What to say about a model that does not repeat: the first of its modules whose result changes."""
    model = network.model
    passes: list[list[tuple[str, Any]]] = []
    hooks = [
        module.register_forward_hook(lambda _module, _given, found, name=name: passes[-1].append((name, found)))
        for name, module in model.named_modules()
    ]
    try:
        for _ in range(3):  # a layer that is left out at random changes what is called
            passes.append([])
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    names = [
        name
        for other in passes[1:]
        for (name, found), (again, result) in zip(passes[0], other, strict=False)
        if name != again or (isinstance(found, Tensor) and _differ(found, result))
    ]
    module = dict(model.named_modules())[names[0]] if names else model
    where = f"{type(module).__name__} {names[0]!r}" if names and names[0] else type(model).__name__
    return (
        f"model gives two results for one batch ({where}), so two sweeps would not see the same function. Call "
        "model.eval(), or let it draw from PyTorch's global generator and keep nothing from call to call."
    )

"""The matching loss and its gradient for any module: at once, or step by step.

The formulas are in sweeps.py.
"""

import copy
import threading
import warnings
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import get_args
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from engine.matching.arguments import check_model, check_values
from engine.matching.compiled import UNCOMPILED, checked_steps, in_words
from engine.matching.draws import draws_random
from engine.matching.parameter_store import Store
from engine.matching.problem import MatchingGradient, Mode, Problem, Schedule, checked_problem
from engine.matching.rank_shares import WHOLE, Whole
from engine.matching.repeats import check_augmentation
from engine.matching.steps import Steps
from engine.matching.sweeps import sweep
from engine.networks.flat import FlatNetwork, LossName
from engine.runtime.generators import run_to_end

LOSSES = get_args(LossName)

_ONE_AT_A_TIME = threading.RLock()
"""A step puts its parameters into the model, and its seeds into generators that all threads share: two threads would
compute with each other's, in silence."""


def matching_gradient(
    model: nn.Module,
    *,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    student_lr: Tensor | float,
    schedule: Schedule,
    mode: Mode = "exact",
    store: Store = "auto",
    compile: bool = False,  # noqa: A002 - the name torch and the settings use
    loss: LossName = "cross-entropy",
    seed: int | None = None,
) -> MatchingGradient:
    """The matching loss after T student steps, and its gradient with respect to images, labels and step size.

    A call changes nothing: not the model, its buffers or its mode, and no generator. What model and augmentations draw
    (dropout, stochastic depth, random crops) differs from step to step and is the same in every sweep over a step.

    Args:
        model: the student network, any module; only its shape is used, never its parameter values. Parameters with
            `requires_grad = False` are constants, with their values in `start`; buffers keep the model's.
        start: theta_0 `(P,)`, teacher parameters the student starts from, in `model.parameters()` order.
        target: theta* `(P,)`, teacher parameters the student should reach.
        images: synthetic images `(N, C, H, W)` in the network's input space.
        labels: class probabilities `(N, K)`; any numbers for `mse`.
        student_lr: beta, the student's step size, a positive scalar.
        schedule: T pairs `(index, augment)`; batches may repeat images, overlap, and need not cover all.
        mode: `exact` (default), `paper` (eq. 6 of the paper) or `unrolled` (all T graphs; the reference).
        store: where `exact` keeps the T parameter vectors: `device`, `host`, `checkpoint` or `auto`.
        compile: fuse the steps with torch.compile, as a run with `compute.compile = on` does (not for `unrolled`).
            The first call for a model, mode and batch size compiles and checks against eager; where the compiler
            fails, or the model draws random numbers, a warning says why and the result is eager's.
        loss: what the student minimises: `cross-entropy` or `mse` (half the squared distance of logits to labels).
        seed: of what model and augmentations draw: equal seeds, equal draws. None: a function of the state of
            PyTorch's global generator, which a call does not change; give every iteration its own seed.

    Returns:
        Loss and gradients of the *whole* loss L (published code uses half the image gradient).

    Raises:
        ValueError: arguments that do not fit each other or have no gradient; a model or an augmentation that gives two
            results for one batch and cannot be replayed.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}.")
    if seed is not None and not isinstance(seed, Integral):
        raise ValueError(f"seed is a {type(seed).__name__}; it must be a whole number or None.")
    seed = None if seed is None else int(seed)
    check_model(model)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; it must be a torch.nn.Module, which this is made from.")
    network = FlatNetwork(model, loss=loss)
    problem = checked_problem(network, start, target, images, labels, student_lr, schedule, mode, store, seed=seed)
    check_values(
        problem.start, problem.target, problem.images, problem.labels, problem.student_lr, schedule,
        probabilities=loss == "cross-entropy",
    )  # fmt: skip
    with _ONE_AT_A_TIME:
        check_augmentation(problem)
        if compile and mode != "unrolled":
            problem = replace(problem, steps=_fused_steps(problem, model, hessian=mode == "exact"))
        return run_to_end(sweep(problem, mode, store))


def matching_sweeps(
    model: nn.Module | FlatNetwork | Steps,
    *,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    student_lr: Tensor | float,
    schedule: Schedule,
    mode: Mode = "exact",
    store: Store = "auto",
    reuse: MatchingGradient | None = None,
    shares: Whole = WHOLE,
    seed: int | None = None,
) -> Generator[float, None, MatchingGradient]:
    """As `matching_gradient`, but pausing after every student step, so that the caller can stop or report.

    Numbers are not read from the device to check them, but once for each model: whether it repeats.

    Args (besides those of `matching_gradient`):
        reuse: an earlier result for images of the same shape, which is overwritten: at 50,000 images of 3x64x64 the
            gradient has 2.5 GB, and a loop would else hold the last one while it computes the next.
        shares: where the schedule holds only this rank's part of every batch; all ranks get the gradient of the whole.

    Yields:
        The share of the work done, 0..1.
    """
    problem = checked_problem(model, start, target, images, labels, student_lr, schedule, mode, store, shares, seed)
    return (yield from sweep(problem, mode, store, reuse))


_fused: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Steps]] = WeakKeyDictionary()
"""Compiled steps by model, so that only the first of many calls compiles."""


def _fused_steps(problem: Problem, model: nn.Module, *, hessian: bool) -> Steps:
    sizes = {len(index): step for step, (index, _) in enumerate(problem.schedule)}
    loss = problem.steps.network.loss
    where = (problem.start.dtype, problem.start.device)
    key = (hessian, loss, model.training, *sorted(sizes), problem.images.shape[1:], *where)
    known = _fused.setdefault(model, {})
    if key not in known:
        batches = [problem.draws.watched(step, partial(problem.batch, step)) for step in sizes.values()]
        if draws_random(problem.steps.network, problem.start, batches[0][0]):
            # Not kept: a share of dropout may change. And a generator that a module has cannot be copied.
            warnings.warn(f"{UNCOMPILED}.", stacklevel=3)
            return problem.steps
        try:
            # The model itself must not be a value in its own weak dictionary: its shape is all the steps use.
            network = FlatNetwork(copy.deepcopy(model), loss=loss)
        except Exception as error:  # a user's class decides how it is copied
            warnings.warn(f"torch.compile is not used: model cannot be copied ({in_words(error)}).", stacklevel=3)
            return problem.steps
        known[key], reason = checked_steps(network, problem.start, batches, hessian=hessian)
        if reason:
            warnings.warn(f"{reason}.", stacklevel=3)
    return known[key]

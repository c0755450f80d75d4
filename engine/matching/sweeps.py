"""Three ways to the gradient of the matching loss: `exact`, `paper`, `unrolled`.

`exact` is the reverse-mode adjoint of the SGD recursion, one step's graph alive at a time:

    lam = 2 (theta_T - theta*) / D ,   D = ||theta_0 - theta*||^2
    for i = T-1 .. 0:
        s         = <g_i(theta_i, X_i, Y_i), lam>            lam held constant
        dL/dX_i   = -beta ds/dX_i                            chained through augment_i, added into the images
        dL/dY_i   = -beta ds/dY_i
        dL/dbeta += -<g_i, lam>
        lam       = lam - beta ds/dtheta_i                   a Hessian-vector product

`paper` (TESLA, eq. 6) is the same without the last line: it leaves out that theta_i depends on the images of the
steps before. Without it the order of the steps does not matter, so the second sweep runs forward and needs no
stored parameters at all. `unrolled` (MTT) keeps all T graphs and calls backward: the reference.
"""

import copy
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from engine.matching.compiled import checked_steps
from engine.matching.parameter_store import STORES, Store, make_trace
from engine.matching.rank_shares import WHOLE, Whole
from engine.matching.steps import EagerSteps, Steps, saved_bytes, student_loss
from engine.networks.flat import FlatNetwork, LossName
from engine.runtime.allocator import choose_memory
from engine.runtime.generators import run_to_end

Mode = Literal["exact", "paper", "unrolled"]
LOSSES = get_args(LossName)
MODES = ("exact", "paper", "unrolled")

SMALL_BATCH = 2**18
"""Bytes of a batch whose augmentation is differentiated without being replayed once more."""

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
) -> MatchingGradient:
    """The matching loss after T student steps, and its gradient with respect to images, labels and step size.

    Args:
        model: the student network, any module; only its shape is used, never its parameter values.
        start: theta_0 `(P,)`, teacher parameters the student starts from, in `model.parameters()` order.
        target: theta* `(P,)`, teacher parameters the student should reach.
        images: synthetic images `(N, C, H, W)` in the network's input space.
        labels: class probabilities `(N, K)`.
        student_lr: beta, the student's step size, a positive scalar.
        schedule: T pairs `(index, augment)`; batches may repeat images, overlap, and need not cover all.
        mode: `exact` (default), `paper` (eq. 6 of the paper) or `unrolled` (all T graphs; the reference).
        store: where `exact` keeps the T parameter vectors: `device`, `host`, `checkpoint` or `auto`.
        compile: fuse the steps with torch.compile, as a run with `compute.compile = on` does (not for `unrolled`).
            The first call for a model, mode and batch size compiles and checks against eager; where the compiler
            fails, a warning says why and the result is eager's.
        loss: what the student minimises: `cross-entropy` or `mse` (half the squared distance of logits to labels).

    Returns:
        Loss and gradients of the *whole* loss L (published code uses half the image gradient).

    Raises:
        ValueError: shapes that do not fit, an empty schedule, an unknown mode, store or loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}.")
    steps: FlatNetwork | Steps = FlatNetwork(model, loss=loss)
    if compile and mode != "unrolled":
        problem = _checked_problem(steps, start, target, images, labels, student_lr, schedule, mode, store)
        steps = _fused_steps(problem, model, hessian=mode == "exact")
    return run_to_end(
        matching_sweeps(
            steps,
            start=start,
            target=target,
            images=images,
            labels=labels,
            student_lr=student_lr,
            schedule=schedule,
            mode=mode,
            store=store,
        )
    )


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
) -> Generator[float, None, MatchingGradient]:
    """As `matching_gradient`, but pausing after every student step, so that the caller can stop or report.

    Args (besides those of `matching_gradient`):
        reuse: an earlier result for images of the same shape, which is overwritten: at 50,000 images of 3x64x64 the
            gradient has 2.5 GB, and a loop would else hold the last one while it computes the next.
        shares: where the schedule holds only this rank's part of every batch; all ranks get the gradient of the whole.

    Yields:
        The share of the work done, 0..1.
    """
    problem = _checked_problem(model, start, target, images, labels, student_lr, schedule, mode, store, shares)
    if images.device.type == "cpu":
        choose_memory("flat")  # unless the program has chosen already, as a session has
    if mode == "exact":
        return (yield from _exact(problem, store, reuse))
    if mode == "paper":
        return (yield from _paper(problem, reuse))
    return (yield from _unrolled(problem))


def _exact(problem: Problem, store: Store, reuse: MatchingGradient | None) -> Generator[float, None, MatchingGradient]:
    steps = len(problem.schedule)
    # A first-order step costs 3F, a second-order one 9F: progress in quarters of a step pair.
    work = 4.0 * steps
    theta = problem.start
    graph_bytes = _graph_bytes(problem) if store in ("auto", "checkpoint") else 0
    trace = make_trace(store, steps, theta, graph_bytes)
    for step in range(steps):
        trace.put(step, theta)
        theta = problem.advance(theta, step)
        yield (step + 1) / work
    loss, adjoint = problem.loss_and_adjoint(theta)
    del theta
    totals = GradientAccumulator(problem, reuse)
    for step, parameters in trace.backward(problem.advance):
        if parameters is None:  # a replayed step; nothing to differentiate yet
            yield 0.25 + totals.done * 3 / work
            continue
        hessian_vector = totals.add(step, parameters, adjoint, hessian=step > 0)
        del parameters
        if hessian_vector is not None:
            adjoint.addcmul_(hessian_vector, problem.student_lr, value=-1)
            del hessian_vector
        yield 0.25 + totals.done * 3 / work
    return totals.result(loss)


def _paper(problem: Problem, reuse: MatchingGradient | None) -> Generator[float, None, MatchingGradient]:
    steps = len(problem.schedule)
    work = 4.0 * steps
    theta = problem.start
    for step in range(steps):
        theta = problem.advance(theta, step)
        yield (step + 1) / work
    loss, adjoint = problem.loss_and_adjoint(theta)
    totals = GradientAccumulator(problem, reuse)
    theta = problem.start
    for step in range(steps):
        totals.add(step, theta, adjoint, hessian=False)
        # The second sweep computes g_i anyway, so it can walk forward from the start and store nothing.
        assert totals.gradient is not None
        theta = torch.addcmul(theta, totals.gradient, problem.student_lr, value=-1)
        totals.gradient = None
        yield 0.25 + totals.done * 3 / work
    return totals.result(loss)


def _unrolled(problem: Problem) -> Generator[float, None, MatchingGradient]:
    images = problem.images.detach().requires_grad_()
    labels = problem.labels.detach().requires_grad_()
    student_lr = problem.student_lr.detach().requires_grad_()
    theta = problem.start.detach().requires_grad_()
    with torch.enable_grad():
        for step, (index, augment) in enumerate(problem.schedule):
            loss = student_loss(problem.steps.network, theta, augment(images[index]), labels[index])
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - student_lr * gradient
            yield (step + 1) / (len(problem.schedule) + 1)
        loss, _ = problem.loss_and_adjoint(theta)
        found = torch.autograd.grad(loss, (images, labels, student_lr), materialize_grads=True)
    return MatchingGradient(loss.detach(), found[0], found[1], found[2])


class GradientAccumulator:
    """The gradients being summed over steps."""

    def __init__(self, problem: Problem, reuse: MatchingGradient | None) -> None:
        self.problem = problem
        self.images = torch.zeros_like(problem.images) if reuse is None else reuse.images.zero_()
        self.labels = torch.zeros_like(problem.labels) if reuse is None else reuse.labels.zero_()
        self.student_lr = torch.zeros_like(problem.student_lr)
        self.gradient: Tensor | None = None
        """g of the last step, for `paper`, which steps with it."""
        self.done = 0

    def add(self, step: int, theta: Tensor, adjoint: Tensor, *, hessian: bool) -> Tensor | None:
        """Add what step i contributes; return ds/dtheta_i if requested."""
        index, _ = self.problem.schedule[step]
        # An augmentation's graph is several batches large. Where that is noticed, it is alive neither beside the graph
        # of the derivatives nor after its step: the augmentation is replayed for it, and differentiated at once.
        small = self.problem.images[0].nbytes * len(index) <= SMALL_BATCH
        graph = self._augmented(step) if small else None
        batch = (graph[1].detach(), self.problem.labels[index]) if graph else self.problem.batch(step)
        found = self.problem.steps.derivatives(theta, *batch, adjoint, hessian=hessian)
        found = self.problem.shares.derivatives(step, found)
        chosen, augmented = graph or self._augmented(step)
        (pulled,) = torch.autograd.grad(augmented, chosen, grad_outputs=found.images, materialize_grads=True)
        self.images.index_add_(0, index, pulled)
        self.labels.index_add_(0, index, found.labels)
        self.student_lr.sub_(found.along)
        self.gradient = found.gradient
        self.done += 1
        return found.theta

    def _augmented(self, step: int) -> tuple[Tensor, Tensor]:
        """The images of a batch, and what the augmentation makes of them, with its graph."""
        index, augment = self.problem.schedule[step]
        with torch.enable_grad():
            chosen = self.problem.images[index].requires_grad_()
            return chosen, augment(chosen)

    def result(self, loss: Tensor) -> MatchingGradient:
        """The factor -beta, common to all steps, comes last."""
        self.problem.shares.sum_(self.images, self.labels, self.student_lr)
        factor = -self.problem.student_lr
        return MatchingGradient(loss, self.images.mul_(factor), self.labels.mul_(factor), self.student_lr)


_fused: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Steps]] = WeakKeyDictionary()
"""Compiled steps by model, so that only the first of many calls compiles."""


def _fused_steps(problem: Problem, model: nn.Module, *, hessian: bool) -> Steps:
    sizes = {len(index): step for step, (index, _) in enumerate(problem.schedule)}
    loss = problem.steps.network.loss
    where = (problem.start.dtype, problem.start.device)
    key = (hessian, loss, model.training, *sorted(sizes), problem.images.shape[1:], *where)
    known = _fused.setdefault(model, {})
    if key not in known:
        batches = [problem.batch(step) for step in sizes.values()]
        # The model itself must not be a value in its own weak dictionary: its shape is all the steps use.
        network = FlatNetwork(copy.deepcopy(model), loss=loss)
        known[key], reason = checked_steps(network, problem.start, batches, hessian=hessian)
        if reason:
            warnings.warn(f"torch.compile is not used: {reason}.", stacklevel=3)
    return known[key]


_graphs: WeakKeyDictionary[FlatNetwork, dict[torch.Size, int]] = WeakKeyDictionary()
"""Bytes of a graph by network and shape of the batch, so that a run looks once."""


def _graph_bytes(problem: Problem) -> int:
    """Bytes that one first-order graph of this problem keeps alive; costs one forward pass the first time."""
    images, labels = problem.batch(0)
    rows = problem.steps.rows(len(images))
    images, labels = images[:rows], labels[:rows]
    known = _graphs.setdefault(problem.steps.network, {})
    if images.shape not in known:
        theta = problem.start.detach().requires_grad_()
        with torch.enable_grad():
            _, size = saved_bytes(lambda: student_loss(problem.steps.network, theta, images, labels))
        known[images.shape] = problem.shares.agreed(size)
    return known[images.shape]


def _checked_problem(
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

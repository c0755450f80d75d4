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

from collections.abc import Generator
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from engine.matching.parameter_store import Store, make_trace
from engine.matching.problem import MatchingGradient, Mode, Problem
from engine.matching.repeats import check_repeats
from engine.matching.steps import saved_bytes, student_loss
from engine.networks.flat import FlatNetwork
from engine.runtime.allocator import choose_memory
from engine.runtime.out_of_memory import is_out_of_memory

SMALL_BATCH = 2**18
"""Bytes of a batch whose augmentation is differentiated without being replayed once more."""


def sweep(
    problem: Problem, mode: Mode, store: Store, reuse: MatchingGradient | None = None
) -> Generator[float, None, MatchingGradient]:
    """Solve a checked problem, pausing after every student step; see `matching_sweeps`."""
    if problem.images.device.type == "cpu":
        choose_memory("flat")  # unless the program has chosen already, as a session has
    check_repeats(problem)
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
        theta = problem.first(theta, step)
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
        theta = problem.first(theta, step)
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
        for step in range(len(problem.schedule)):
            loss = problem.draws.watched(step, partial(_loss, problem, step, theta, images, labels))
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - student_lr * gradient
            yield (step + 1) / (len(problem.schedule) + 1)
        loss, _ = problem.loss_and_adjoint(theta)
        found = torch.autograd.grad(loss, (images, labels, student_lr), materialize_grads=True)
    return MatchingGradient(loss.detach(), found[0], found[1], found[2])


def _loss(problem: Problem, step: int, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The student's loss in a step, with the graph of its augmentation."""
    index, _ = problem.schedule[step]
    augmented = problem.augmented(step, images[index])
    with problem.draws.at("student", step):
        return student_loss(problem.steps.network, theta, augmented, labels[index])


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
        found = self.problem.derivatives(theta, step, batch, adjoint, hessian=hessian)
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
        index, _ = self.problem.schedule[step]
        with torch.enable_grad():
            chosen = self.problem.images[index].requires_grad_()
            return chosen, self.problem.augmented(step, chosen)

    def result(self, loss: Tensor) -> MatchingGradient:
        """The factor -beta, common to all steps, comes last."""
        self.problem.shares.sum_(self.images, self.labels, self.student_lr)
        factor = -self.problem.student_lr
        return MatchingGradient(loss, self.images.mul_(factor), self.labels.mul_(factor), self.student_lr)


_graphs: WeakKeyDictionary[FlatNetwork, dict[torch.Size, int]] = WeakKeyDictionary()
"""Bytes of a graph by network and shape of the batch, so that a run looks once."""


def _graph_bytes(problem: Problem) -> int:
    """Bytes that one first-order graph of this problem keeps alive; costs one forward pass the first time."""
    index, _ = problem.schedule[0]
    rows = problem.steps.rows(len(index))
    known = _graphs.setdefault(problem.steps.network, {})
    shape = torch.Size((rows, *problem.images.shape[1:]))
    if shape not in known:
        known[shape] = problem.shares.agreed(problem.draws.watched(0, partial(_counted_bytes, problem, rows)))
    return known[shape]


def _counted_bytes(problem: Problem, rows: int) -> int:
    images, labels = problem.batch(0)
    images, labels = images[:rows], labels[:rows]
    theta = problem.start.detach().requires_grad_()
    with torch.enable_grad(), problem.draws.at("student", 0):
        try:
            return saved_bytes(lambda: student_loss(problem.steps.network, theta, images, labels))[1]
        except RuntimeError as error:  # a model that calls `torch.func.grad`, which takes no hooks
            if is_out_of_memory(error):
                raise
            return 0

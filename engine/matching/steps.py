"""What one student step computes: its gradient, and the derivatives of that gradient along the adjoint.

Pure functions of tensors. Costs in forward passes F over the batch: `gradient` 3F, `derivatives` up to 9F (a double
backward); compiled.py does it in 8F.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from engine.networks.flat import FlatNetwork


class Derivatives(NamedTuple):
    """Derivatives of `s = <g(theta, X, Y), lam>` with lam held constant."""

    along: Tensor
    """s itself, a scalar."""
    images: Tensor
    """ds/dX `(B, C, H, W)`."""
    labels: Tensor
    """ds/dY `(B, K)`."""
    theta: Tensor | None = None
    """ds/dtheta `(P,)`, the Hessian-vector product; None if not requested."""
    gradient: Tensor | None = None
    """g `(P,)`, for a sweep that steps with it; None beside a Hessian-vector product."""


def student_loss(network: FlatNetwork, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the student on a batch with labels `(B, K)`: that of the network, cross-entropy or squared error."""
    logits = network(theta, images)
    return squared_error(logits, labels) if network.loss == "mse" else soft_cross_entropy(logits, labels)


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of `-<labels, log softmax(logits)>`; both `(B, K)`, labels are probabilities."""
    return -(labels * logits.log_softmax(dim=1)).sum(dim=1).mean()


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of `1/2 |logits - labels|^2`, as FRePo trains (TESLA, App. A.7); both `(B, K)`."""
    # Multiplied out: compiled in forward mode, the difference of a tensor with a tangent and one without reads a zero
    # tensor that has no memory (torch 2.13, a segmentation fault).
    return (0.5 * logits.square() - labels * logits + 0.5 * labels.square()).sum(dim=1).mean()


class Steps(Protocol):
    """What a sweep computes at every step."""

    network: FlatNetwork

    def rows(self, batch: int) -> int:
        """Images whose graph is alive at once, of a batch of that many."""

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """`g = dloss/dtheta` `(P,)`, first order only: the graph is freed on return."""

    def derivatives(
        self, theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """Differentiate `<g, adjoint>` once more.

        Args:
            theta: `(P,)`.
            images: the augmented batch `(B, C, H, W)`.
            labels: `(B, K)` probabilities.
            adjoint: lam `(P,)`, a constant.
            hessian: give ds/dtheta; else g.
        """


class EagerSteps:
    """`Steps` by autograd, reverse over reverse."""

    def __init__(self, network: FlatNetwork) -> None:
        self.network = network

    def rows(self, batch: int) -> int:
        """See `Steps`."""
        return batch

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """See `Steps`."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            loss = student_loss(self.network, theta, images, labels)
            (gradient,) = torch.autograd.grad(loss, theta)
        return gradient

    def derivatives(
        self, theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """See `Steps`."""
        theta = theta.detach().requires_grad_()
        images = images.detach().requires_grad_()
        labels = labels.detach().requires_grad_()
        with torch.enable_grad():
            loss = student_loss(self.network, theta, images, labels)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            wanted = (images, labels, theta) if hessian else (images, labels)
            # grad_outputs instead of a dot product: the same number, one kernel and one saved tensor less.
            found = torch.autograd.grad(gradient, wanted, grad_outputs=adjoint, materialize_grads=True)
        gradient = gradient.detach()
        along = torch.dot(gradient, adjoint)
        if hessian:
            return Derivatives(along, found[0], found[1], theta=found[2])
        return Derivatives(along, found[0], found[1], gradient=gradient)


def saved_bytes(forward: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Run `forward` and count the bytes its autograd graph keeps alive (each storage once).

    This is the yardstick for `store="auto"`: parameters may be kept where they are small beside the graph.
    """
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that saved its own output would keep itself, and the whole graph, alive

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    return result, sum(sizes.values())

"""A batch divided over ranks: what one rank computes of its part becomes what one process computes of the whole.

The loss is the mean over the batch, so everything a step gives (g, s, ds/dX, ds/dY, ds/dtheta) of the whole batch is
the sum over its parts, each weighted by its share of the images:

    g(theta; X) = sum_r (B_r / B) g(theta; X_r)

Vectors over the parameters are needed whole at every step and are summed there, P numbers each. Gradients of images,
labels and student_lr are sums over steps, so each rank adds up its own and they are summed once, at the end.
"""

from collections.abc import Sequence

from torch import Tensor

from engine.matching.steps import Derivatives
from engine.runtime.distributed.ranks import Ranks


class Whole:
    """The batches of the schedule are whole: a step already gives the right result."""

    def vector(self, step: int, vector: Tensor) -> Tensor:
        """`(P,)` over the whole batch, from this part's; may write into it."""
        return vector

    def derivatives(self, step: int, found: Derivatives) -> Derivatives:
        """What is over parameters summed, the rest weighted."""
        return found

    def agreed(self, size: int) -> int:
        """A size by which all decide alike: parts differ by an image, and a step that only one replays would hang."""
        return size

    def sum_(self, images: Tensor, labels: Tensor, student_lr: Tensor) -> None:
        """The totals over all steps, in place."""


WHOLE = Whole()


class Parts(Whole):
    """The batches of the schedule are this rank's parts.

    Args:
        ranks: who has the others.
        weights: for each step the share of its batch that is here, B_r / B.
        labels: whether the gradient of the labels is wanted; `(N, K)` is much to send for nothing.
    """

    def __init__(self, ranks: Ranks, weights: Sequence[float], *, labels: bool = True) -> None:
        self._ranks = ranks
        self._weights = weights
        self._labels = labels

    def vector(self, step: int, vector: Tensor) -> Tensor:
        """See `Whole`."""
        self._ranks.sum_(vector.mul_(self._weights[step]))
        return vector

    def derivatives(self, step: int, found: Derivatives) -> Derivatives:
        """See `Whole`."""
        weight = self._weights[step]
        return Derivatives(
            along=found.along * weight,
            images=found.images * weight,
            labels=found.labels * weight,
            theta=None if found.theta is None else self.vector(step, found.theta),
            gradient=None if found.gradient is None else self.vector(step, found.gradient),
        )

    def agreed(self, size: int) -> int:
        """See `Whole`."""
        return int(self._ranks.led(size))

    def sum_(self, images: Tensor, labels: Tensor, student_lr: Tensor) -> None:
        """See `Whole`."""
        self._ranks.sum_(images, student_lr, *([labels] if self._labels else []))

"""A batch differentiated in parts, one after the other: the memory of a part, the derivatives of the whole.

As in rank_shares.py, what is a mean over the batch is the sum over its parts, weighted by their share of the images:

    g(theta; X) = sum_j (B_j / B) g(theta; X_j)

so only the order of additions differs. It holds for networks that treat every image separately (instance, group and
layer norm); not for batch statistics.
"""

from collections.abc import Iterator

from torch import Tensor

from engine.matching.steps import Derivatives, Steps


class MicroSteps:
    """`Steps` that give the inner ones at most `rows` images at a time.

    Args:
        inner: computes a part.
        rows: images of a part, at most; the last part of a batch may be smaller.
    """

    def __init__(self, inner: Steps, rows: int) -> None:
        if rows < 1:
            raise ValueError(f"A part needs at least one image; got rows = {rows}.")
        self.network = inner.network
        self._inner = inner
        self._rows = rows

    def rows(self, batch: int) -> int:
        """See `Steps`."""
        return min(self._rows, batch)

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """See `Steps`."""
        if len(images) <= self._rows:
            return self._inner.gradient(theta, images, labels)
        total = theta.new_zeros(theta.shape)
        for part, weight in self._parts(len(images)):
            total.add_(self._inner.gradient(theta, images[part], labels[part]), alpha=weight)
        return total

    def derivatives(
        self, theta: Tensor, images: Tensor, labels: Tensor, adjoint: Tensor, *, hessian: bool
    ) -> Derivatives:
        """See `Steps`."""
        if len(images) <= self._rows:
            return self._inner.derivatives(theta, images, labels, adjoint, hessian=hessian)
        along = theta.new_zeros(())
        by_images, by_labels = images.new_empty(images.shape), labels.new_empty(labels.shape)
        vector = theta.new_zeros(theta.shape)  # ds/dtheta or g, whichever the inner steps give
        has_theta = has_gradient = False
        for part, weight in self._parts(len(images)):
            found = self._inner.derivatives(theta, images[part], labels[part], adjoint, hessian=hessian)
            along.add_(found.along, alpha=weight)
            by_images[part] = found.images
            by_images[part].mul_(weight)
            by_labels[part] = found.labels
            by_labels[part].mul_(weight)
            has_theta, has_gradient = found.theta is not None, found.gradient is not None
            given = found.theta if found.theta is not None else found.gradient
            if given is not None:
                vector.add_(given, alpha=weight)
        return Derivatives(
            along, by_images, by_labels, theta=vector if has_theta else None, gradient=vector if has_gradient else None
        )

    def _parts(self, count: int) -> Iterator[tuple[slice, float]]:
        for begin in range(0, count, self._rows):
            end = min(begin + self._rows, count)
            yield slice(begin, end), (end - begin) / count


def part_sizes(batch: int, rows: int) -> set[int]:
    """Sizes of the parts of a batch, `rows` at most; 0 for no limit."""
    if not rows or batch <= rows:
        return {batch}
    return {rows, batch % rows} if batch % rows else {rows}

"""A measurement over iterations in bounded memory: neighbouring points are merged as it grows, extremes are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CAPACITY = 1024
"""Buckets; more than a terminal has columns of dots."""


@dataclass(frozen=True, eq=False)
class Points:
    """A series as it is drawn: one row a bucket."""

    x: Array
    """Middle of the bucket."""
    low: Array
    high: Array
    mean: Array


class Series:
    """Points `(x, y)` with x ascending, merged to at most `CAPACITY` buckets of equal count.

    Memory is constant; adding is amortised constant; minimum, maximum, mean and count of every bucket are exact.
    """

    def __init__(self) -> None:
        self.stride = 1
        """Points in a whole bucket."""
        self._first = np.empty(0)
        self._last = np.empty(0)
        self._low = np.empty(0)
        self._high = np.empty(0)
        self._sum = np.empty(0)
        self._count = np.empty(0)
        self.latest: float | None = None
        """The newest y."""

    def __len__(self) -> int:
        return len(self._first)

    def extend(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add points; those whose y is not finite are left out."""
        x, y = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
        finite = np.isfinite(y)
        x, y = x[finite], y[finite]
        if len(y) == 0:
            return
        self.latest = float(y[-1])
        ones = np.ones(len(y))
        self._append(x, x, y, y, y, ones)

    def cut(self, after: float) -> None:
        """Forget everything beyond x = `after`: a run went on from an older checkpoint."""
        keep = self._last <= after
        for name in ("_first", "_last", "_low", "_high", "_sum", "_count"):
            setattr(self, name, getattr(self, name)[keep])

    def points(self) -> Points:
        """What there is now."""
        return Points((self._first + self._last) / 2, self._low, self._high, self._sum / np.maximum(self._count, 1))

    def _append(self, first: Array, last: Array, low: Array, high: Array, total: Array, count: Array) -> None:
        old = (self._first, self._last, self._low, self._high, self._sum, self._count)
        new = (first, last, low, high, total, count)
        columns = [np.concatenate(pair) for pair in zip(old, new, strict=True)]
        while True:
            # Buckets fill up in order; a group is all that fits into `stride` points.
            counts = columns[5]
            group = ((np.cumsum(counts) - 1) // self.stride).astype(int)
            edges = np.flatnonzero(np.diff(group, prepend=-1))
            if len(edges) <= CAPACITY:
                break
            self.stride *= 2
        first, last, low, high, total, count = columns
        self._first = first[edges]
        self._last = np.maximum.reduceat(last, edges)
        self._low = np.minimum.reduceat(low, edges)
        self._high = np.maximum.reduceat(high, edges)
        self._sum = np.add.reduceat(total, edges)
        self._count = np.add.reduceat(count, edges)


def smoothed(values: Array, width: int) -> Array:
    """Mean over the `width` nearest buckets (at most a fifth of all), less at the ends: the trend in a noisy curve."""
    width = min(width, len(values) // 5)  # a short curve keeps its shape
    if width < 2:
        return values
    half = width // 2
    total = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    left, right = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    mean: Array = (total[right] - total[left]) / (right - left)
    return mean

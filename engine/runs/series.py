"""A measurement over iterations in bounded memory: neighbouring points are merged as it grows, extremes are kept."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from math import inf, isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CAPACITY = 1024
"""Buckets; more than a terminal has columns of dots."""


@dataclass(frozen=True, eq=False)
class Points:
    """A series as it is drawn: one row a bucket."""

    x: "npt.NDArray[np.float64]"
    """Middle of the bucket."""
    low: "npt.NDArray[np.float64]"
    high: "npt.NDArray[np.float64]"
    mean: "npt.NDArray[np.float64]"


class Series:
    """Points `(x, y)` with x ascending, merged to at most `CAPACITY` buckets of equal count.

    Memory is constant; adding is amortised constant; minimum, maximum, mean and count of every bucket are exact. Up to
    `CAPACITY` points, each has its own bucket.
    """

    def __init__(self) -> None:
        self.stride = 1
        """Points in a full bucket; only the last one may have fewer."""
        self.latest: float | None = None
        """The newest y; after a cut, the mean of the last bucket."""
        self._first = array("d")
        self._last = array("d")
        self._low = array("d")
        self._high = array("d")
        self._sum = array("d")
        self._count = array("q")

    def __len__(self) -> int:
        return len(self._count)

    def extend(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add points; those whose y is not finite are left out."""
        if not all(map(isfinite, ys)):
            kept = [isfinite(y) for y in ys]
            xs, ys = list(compress(xs, kept)), list(compress(ys, kept))
        begin = 0
        while begin < len(ys):
            if not self._count or self._count[-1] == self.stride:
                if len(self) == CAPACITY:
                    self._merge()
                    continue
                self._open(xs[begin])
            end = min(len(ys), begin + self.stride - self._count[-1])
            part = ys[begin:end]
            self._last[-1] = xs[end - 1]
            self._low[-1] = min(self._low[-1], min(part))
            self._high[-1] = max(self._high[-1], max(part))
            self._sum[-1] += sum(part)
            self._count[-1] += end - begin
            begin = end
        if ys:
            self.latest = float(ys[-1])

    def cut(self, after: float) -> None:
        """Forget everything beyond x = `after`; of merged points, the whole bucket."""
        while self._last and self._last[-1] > after:
            for column in (self._first, self._last, self._low, self._high, self._sum, self._count):
                column.pop()
        self.latest = self._sum[-1] / self._count[-1] if self._count else None

    def points(self) -> Points:
        """The current points."""
        import numpy as np  # only for those who draw: `tesla status` does without

        first, last, low, high, total = map(np.array, (self._first, self._last, self._low, self._high, self._sum))
        return Points((first + last) / 2, low, high, total / np.maximum(np.array(self._count), 1))

    def _open(self, x: float) -> None:
        """Start an empty bucket."""
        values = (x, x, inf, -inf, 0.0)
        for column, value in zip((self._first, self._last, self._low, self._high, self._sum), values, strict=True):
            column.append(value)
        self._count.append(0)

    def _merge(self) -> None:
        """Make one bucket of every two; they are full, and their number is even."""
        self.stride *= 2
        self._first, self._last = self._first[::2], self._last[1::2]
        self._low = array("d", map(min, self._low[::2], self._low[1::2]))
        self._high = array("d", map(max, self._high[::2], self._high[1::2]))
        self._sum = array("d", (a + b for a, b in zip(self._sum[::2], self._sum[1::2], strict=True)))
        self._count = array("q", (a + b for a, b in zip(self._count[::2], self._count[1::2], strict=True)))


class Sample:
    """Every n-th of many values, at most `MOST` of them; all of them if there are fewer."""

    MOST = 2**16

    def __init__(self) -> None:
        self.count = 0
        """Values added."""
        self._kept = array("d")
        self._stride = 1

    def extend(self, values: Sequence[float]) -> None:
        """Add values."""
        self._kept.extend(values[-self.count % self._stride :: self._stride])
        self.count += len(values)
        while len(self._kept) > self.MOST:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    @property
    def median(self) -> float | None:
        """Of the values kept; None without any."""
        if not self._kept:
            return None
        ordered = sorted(self._kept)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

"""Means over runs of several seeds, and differences of runs that share a seed, with their 95 % intervals.

Student's t: a run is one observation, however many networks were trained on its images.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from engine.runs.judgement import t_quantile


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float | None
    """None for a single observation, which has no interval."""
    high: float | None
    count: int
    """Observations, usually runs."""

    @property
    def half(self) -> float | None:
        """Half the width of the interval, what stands behind ±."""
        return None if self.high is None else self.high - self.mean


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent observations, mean ± t(n - 1) s / sqrt(n).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    wide = t_quantile(count - 1) * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - wide, mean + wide, count)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a - b over pairs that share what else varies, such as a seed. Its count is that of pairs.

    Raises:
        ValueError: no values, or not as many on both sides.
    """
    return mean_interval([ours - others for ours, others in zip(a, b, strict=True)])

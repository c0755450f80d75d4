"""What a chart does with the points of a series before it draws them."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def smoothed(values: Array, width: int) -> Array:
    """Mean over the `width` nearest buckets (at most a fifth of all), less at the ends: the trend in a noisy curve.

    Values that are not finite stay gaps.
    """
    width = min(width, len(values) // 5)  # a short curve keeps its shape
    if width < 2:
        return values
    half = width // 2
    there = np.isfinite(values)
    total = np.concatenate(([0.0], np.cumsum(np.where(there, values, 0.0))))
    count = np.concatenate(([0], np.cumsum(there)))
    index = np.arange(len(values))
    left, right = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    mean: Array = np.where(there, (total[right] - total[left]) / np.maximum(count[right] - count[left], 1), np.nan)
    return mean

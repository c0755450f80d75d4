"""Measuring at growing sizes, within a time: a size is started only where those before it say that it fits."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.tools.plan.problem import Found

FIRST = 2e10
"""Floating-point operations of the first size: some 0.3 s on two CPU cores, whatever the network."""
FACTOR = 8
"""Most that a size is above the one before it."""
WORTH = 1.5
"""Least that a size must be above the one before it, to be measured too."""


def busy() -> float:
    """Times that work takes longer for other work on the CPUs; 1 where there is none."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else 1.0


class Allowance:
    """Seconds that a measurement may take, counted from here."""

    def __init__(self, most: float) -> None:
        self._begin = time.monotonic()
        self._end = self._begin + most

    @property
    def left(self) -> float:
        """Seconds; negative when it is used up."""
        return self._end - time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begin


@dataclass(frozen=True)
class Point:
    """What was found at one size."""

    size: int
    found: Found
    cost: float
    """Seconds that measuring it took."""
    bytes: int
    """Memory above the program's own at its peak, at this size or a smaller one."""


def first_size(whole: int, flops: float) -> int:
    """The size to begin with, of at most `whole`; one item takes `flops` operations."""
    return max(1, min(whole, int(FIRST / max(flops, 1.0))))


def grow(
    whole: int, first: int, once: Callable[[int], tuple[Found, int]], allowance: Allowance, available: int
) -> list[Point]:
    """Measure at `first`, and at larger sizes up to `whole`.

    Args:
        whole: the size that is wanted.
        first: the smallest, which is measured in any case.
        once: measures at a size; gives what it found, and the bytes that were in use at most.
        allowance: for all of it.
        available: bytes that may be in use.
    """
    points: list[Point] = []
    size = min(first, whole)
    while True:
        begun = time.monotonic()
        found, most = once(size)
        points.append(Point(size, found, time.monotonic() - begun, most))
        size = next_size(whole, points, allowance.left, available)
        if not size:
            return points


def next_size(whole: int, points: list[Point], left: float, available: int) -> int:
    """The next size, the largest that fits; 0 where none is both larger and sure to fit into time and memory."""
    last = points[-1]
    if last.size >= whole or left <= 0:
        return 0
    # The smallest size has the start of everything in its cost, so that this is rather too careful.
    in_time = int(last.size * left / max(last.cost, 1e-9))
    in_memory = int(last.size * available / max(last.bytes, 1))
    size = min(whole, FACTOR * last.size, in_time, in_memory)
    return size if size == whole or size >= WORTH * last.size else 0

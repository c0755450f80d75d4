"""Binomial checkpointing: a few parameter vectors are kept, the steps between them are replayed.

A. Griewank and A. Walther, "Algorithm 799: revolve", ACM TOMS 26 (2000). With s slots and r repeats, C(s + r, s) steps
are walked back with no step replayed more than r - 1 times after the first walk.
"""

import math
from collections.abc import Callable, Generator

from torch import Tensor

Advance = Callable[[Tensor, int], Tensor]
"""`advance(theta_i, i) -> theta_{i+1}`, the student step."""


class CheckpointTrace:
    """`Trace` with few vectors. A replayed step gives the same bits as the first time: this store changes no result.

    Args:
        steps: T.
        slots: vectors kept besides theta_0. With about sqrt(2 T) no step is replayed more than once.
    """

    def __init__(self, steps: int, slots: int) -> None:
        self._steps = steps
        self._slots = slots
        # The backward walk needs the right-most vectors first: those are kept on the way forward.
        self._spine: dict[int, Tensor] = {}
        self._wanted = {0}
        low = 0
        for free in range(slots, 0, -1):
            if steps - low <= 1:
                break
            low = best_split(low, steps, free)
            self._wanted.add(low)

    def put(self, step: int, theta: Tensor) -> None:
        """Keep the vectors of the spine."""
        if step in self._wanted:
            self._spine[step] = theta

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Return the vectors last to first, replaying the steps between two that are kept."""
        yield from self._interval(0, self._steps, [self._spine.pop(0)], self._slots, advance)

    def _interval(
        self, low: int, high: int, held: list[Tensor], slots: int, advance: Advance
    ) -> Generator[tuple[int, Tensor | None], None, None]:
        """Steps high-1 .. low, given theta_low in `held`: a list of one, so that it is freed before its last use."""
        while high - low > 1:
            middle = best_split(low, high, slots) if slots else high - 1
            theta = self._spine.pop(middle, None)
            if theta is None:
                theta = held[0]
                for step in range(low, middle):
                    theta = advance(theta, step)
                    yield step, None
            box = [theta]
            del theta
            yield from self._interval(middle, high, box, max(slots - 1, 0), advance)
            high = middle
        yield low, held.pop()


def best_split(low: int, high: int, slots: int) -> int:
    """Where to put the next of `slots` vectors in steps low .. high-1 for the fewest replays.

    Lengths that are no binomial leave a choice; this is revolve's, for which both sides stay optimal.
    """
    count, total = high - low, slots + 1  # revolve counts theta_low among its snapshots
    repeats = 1
    while math.comb(total + repeats, total) < count:
        repeats += 1
    if count <= math.comb(total + repeats - 1, total) + _comb(total + repeats - 3, total - 2):
        left = _comb(total + repeats - 2, total)
    elif count >= math.comb(total + repeats, total) - _comb(total + repeats - 3, total - 3):
        left = math.comb(total + repeats - 1, total)
    else:
        left = count - math.comb(total + repeats - 2, total - 1) - _comb(total + repeats - 3, total - 2)
    return low + max(1, min(count - 1, left))


def _comb(n: int, k: int) -> int:
    return math.comb(n, k) if 0 <= k <= n else 0

"""Where the exact gradient keeps the T parameter vectors it needs again on its way back.

`device` keeps all of them, T*P numbers. `host` parks them in (pinned) host memory. `checkpoint` keeps a few, at most
sqrt(2 T), and replays the steps between.
"""

import math
from collections.abc import Callable, Generator
from typing import Literal, Protocol

import torch
from torch import Tensor

Store = Literal["auto", "device", "host", "checkpoint"]
STORES = ("auto", "device", "host", "checkpoint")

SMALL = 0.25
"""`auto` keeps parameters on the device while they take at most this share of one first-order graph."""

TINY = 0.04
"""`checkpoint` takes at most this share of one first-order graph (but at least 4 vectors)."""

Advance = Callable[[Tensor, int], Tensor]
"""`advance(theta_i, i) -> theta_{i+1}`, the student step."""


class Trace(Protocol):
    """Remembers theta_0 .. theta_{T-1} on the way forward and gives them back in reverse."""

    def put(self, step: int, theta: Tensor) -> None:
        """Called once per step, in order, before the step is taken."""

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Yield `(i, theta_i)` for i = T-1 .. 0, and `(i, None)` after a replayed step, to stay interruptible."""


class DeviceTrace:
    """All T vectors on the device."""

    def __init__(self) -> None:
        self._thetas: list[Tensor] = []

    def put(self, step: int, theta: Tensor) -> None:
        """Keep a reference: a student step makes a new vector, it never writes into the old one."""
        self._thetas.append(theta)

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Hand the vectors back last to first, letting go of each."""
        while self._thetas:
            yield len(self._thetas) - 1, self._thetas.pop()


class HostTrace:
    """All T vectors in host memory, pinned where the device is an accelerator.

    Copies are issued on the compute stream, so their order is right without a synchronisation.
    """

    def __init__(self, steps: int, like: Tensor) -> None:
        pinned = like.device.type == "cuda"
        self._host = torch.empty((steps, like.numel()), dtype=like.dtype, pin_memory=pinned)
        self._device = like.device

    def put(self, step: int, theta: Tensor) -> None:
        """Copy to the host without waiting for it."""
        self._host[step].copy_(theta, non_blocking=True)

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Copy back one vector at a time."""
        for step in reversed(range(len(self._host))):
            yield step, self._host[step].to(self._device, non_blocking=True)


class CheckpointTrace:
    """A few vectors at a time; the steps between are replayed (binomial checkpointing, Griewank & Walther, 2000).

    A replayed step gives the same bits as the first time, so this store changes no result.

    Args:
        steps: T.
        slots: vectors kept besides theta_0. With about sqrt(2 T) no step is replayed more than once.
    """

    def __init__(self, steps: int, slots: int) -> None:
        self._steps = steps
        self._slots = slots
        # The way back needs the right-most vectors first: those are kept on the way there.
        self._spine: dict[int, Tensor] = {}
        self._wanted = {0}
        low = 0
        for free in range(slots, 0, -1):
            if steps - low <= 1:
                break
            low = _middle(low, steps, free)
            self._wanted.add(low)

    def put(self, step: int, theta: Tensor) -> None:
        """Keep the vectors of the spine."""
        if step in self._wanted:
            self._spine[step] = theta

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Hand the vectors back, replaying what lies between two that are kept."""
        yield from self._interval(0, self._steps, [self._spine.pop(0)], self._slots, advance)

    def _interval(
        self, low: int, high: int, held: list[Tensor], slots: int, advance: Advance
    ) -> Generator[tuple[int, Tensor | None], None, None]:
        """Steps high-1 .. low, given theta_low in `held`, a box of one so that it can be let go before its last use."""
        while high - low > 1:
            middle = _middle(low, high, slots) if slots else high - 1
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


def _middle(low: int, high: int, slots: int) -> int:
    """Where to put the next of `slots` vectors in steps low .. high-1 for the fewest replays."""
    count = high - low
    repeats = 1
    while math.comb(slots + repeats, repeats) < count:
        repeats += 1
    right = math.comb(slots - 1 + repeats, repeats)
    return max(low + 1, min(high - 1, high - right))


def make_trace(store: Store, steps: int, start: Tensor, graph_bytes: int) -> Trace:
    """The trace for a resolved or automatic choice.

    Args:
        store: see the module.
        steps: T.
        start: theta_0 `(P,)`, for size, type and device.
        graph_bytes: what one first-order graph keeps alive, in bytes; `auto` and `checkpoint` look at it.
    """
    if store == "auto":
        needed = steps * start.numel() * start.element_size()
        large: Store = "checkpoint" if start.device.type == "cpu" else "host"
        store = "device" if needed <= SMALL * graph_bytes else large
    if store == "device":
        return DeviceTrace()
    if store == "host":
        return HostTrace(steps, start)
    # Few enough to stay small beside the graph, at least 4; more than sqrt(2 T) would save nothing.
    fitting = int(TINY * graph_bytes / (start.numel() * start.element_size()))
    return CheckpointTrace(steps, min(math.isqrt(2 * steps), max(4, fitting)))

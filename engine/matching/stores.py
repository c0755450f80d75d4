"""Where the exact gradient keeps the T parameter vectors it needs again on its way back.

`device` keeps all of them, T*P numbers. `host` parks them in (pinned) host memory. `checkpoint` keeps about every
sqrt(T)-th and replays the steps between, O(sqrt T) vectors for at most one more first-order sweep.
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
            theta = self._thetas.pop()
            yield len(self._thetas), theta


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
    """About sqrt(T) vectors: the first of every segment, and all of the segment at work.

    A replayed step gives the same bits as the first time, so this store changes no result.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._length = max(1, math.isqrt(max(steps - 1, 0)) + 1)
        self._last = (steps - 1) // self._length * self._length
        self._heads: dict[int, Tensor] = {}
        self._tail: list[Tensor] = []

    def put(self, step: int, theta: Tensor) -> None:
        """Keep segment heads, and the whole last segment: it is needed first."""
        if step >= self._last:
            self._tail.append(theta)
        elif step % self._length == 0:
            self._heads[step] = theta

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Hand back the last segment, then replay and hand back the others, last to first."""
        segment, head = self._tail, self._last
        while True:
            while segment:
                theta = segment.pop()
                yield head + len(segment), theta
            if head == 0:
                return
            head -= self._length
            theta = self._heads.pop(head)
            segment.append(theta)
            for step in range(head, head + self._length - 1):
                theta = advance(theta, step)
                segment.append(theta)
                yield step, None


def make_trace(store: Store, steps: int, start: Tensor, graph_bytes: int) -> Trace:
    """The trace for a resolved or automatic choice.

    Args:
        store: see the module.
        steps: T.
        start: theta_0 `(P,)`, for size, type and device.
        graph_bytes: what one first-order graph keeps alive, in bytes; only `auto` looks at it.
    """
    if store == "auto":
        needed = steps * start.numel() * start.element_size()
        large: Store = "checkpoint" if start.device.type == "cpu" else "host"
        store = "device" if needed <= SMALL * graph_bytes else large
    if store == "device":
        return DeviceTrace()
    if store == "host":
        return HostTrace(steps, start)
    return CheckpointTrace(steps)

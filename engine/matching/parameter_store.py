"""Where the exact gradient keeps the T parameter vectors it needs again on its way back.

`device` keeps all of them, T*P numbers. `host` parks them in (pinned) host memory. `checkpoint` keeps a few, at most
sqrt(2 T), and replays the steps between.
"""

import math
from collections.abc import Generator
from typing import Literal, Protocol

from torch import Tensor

from engine.matching.checkpoints import Advance, CheckpointTrace
from engine.matching.host_offload import HostTrace

Store = Literal["auto", "device", "host", "checkpoint"]
STORES = ("auto", "device", "host", "checkpoint")

SMALL = 0.25
"""`auto` keeps parameters on the device while they take at most this share of one first-order graph."""

TINY = 0.13
"""`checkpoint` takes at most this share of one first-order graph, which is about 4 % of a step's peak."""

UNNOTICED = 16 * 10**6
"""... or this many bytes, if that is more: beside a process of hundreds of megabytes they go unnoticed, and no step
needs to be replayed to save them. The same for `auto`."""

FEWEST = 4
"""Least vectors that `checkpoint` keeps."""


class Trace(Protocol):
    """Stores theta_0 .. theta_{T-1} on the way forward and returns them in reverse."""

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
        """Hand the vectors back last to first, releasing each."""
        while self._thetas:
            yield len(self._thetas) - 1, self._thetas.pop()


def resolve_store(store: Store, steps: int, vector_bytes: int, graph_bytes: int, device: str) -> tuple[Store, int]:
    """What `auto` means, and how many vectors besides theta_0 a store keeps.

    Args:
        store: see the module.
        steps: T.
        vector_bytes: bytes of one vector.
        graph_bytes: what one first-order graph keeps alive, in bytes.
        device: type of the device, `cpu` or an accelerator.
    """
    if store == "auto":
        large: Store = "checkpoint" if device == "cpu" else "host"
        store = "device" if steps * vector_bytes <= max(SMALL * graph_bytes, UNNOTICED) else large
    if store != "checkpoint":
        return store, steps - 1
    # More than sqrt(2 T) save next to nothing.
    fitting = int(max(TINY * graph_bytes, UNNOTICED) / vector_bytes)
    return store, min(math.isqrt(2 * steps), max(FEWEST, fitting))


def make_trace(store: Store, steps: int, start: Tensor, graph_bytes: int) -> Trace:
    """The trace for a resolved or automatic choice.

    Args:
        store: see the module.
        steps: T.
        start: theta_0 `(P,)`, for size, type and device.
        graph_bytes: see `resolve_store`; only `auto` and `checkpoint` look at it.
    """
    vector_bytes = start.numel() * start.element_size()
    store, slots = resolve_store(store, steps, vector_bytes, graph_bytes, start.device.type)
    if store == "device":
        return DeviceTrace()
    if store == "host":
        return HostTrace(steps, start)
    return CheckpointTrace(steps, slots)

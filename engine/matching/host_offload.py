"""Parameter vectors kept in host memory, copied while the device computes.

On CUDA the copies have their own stream: on the way out a vector leaves while the next step runs, on the way back
the next vector arrives while this one is being used, so that two vectors are on the device at any time and it never
waits for the bus (a copy of P numbers is far shorter than a step over a batch).
"""

from collections.abc import Callable, Generator
from typing import Protocol

import torch
from torch import Tensor

from engine.matching.checkpoints import Advance

Arrival = Callable[[], Tensor]
"""Gives the vector on the device, ready for the compute stream."""


class Lane(Protocol):
    """How vectors travel between device and host."""

    def buffer(self, steps: int, like: Tensor) -> Tensor:
        """Host memory `(steps, P)` for vectors like this one."""

    def send(self, target: Tensor, theta: Tensor) -> None:
        """Copy a device vector to its place on the host, in order with all other copies."""

    def fetch(self, source: Tensor) -> Arrival:
        """Start to copy a vector back."""


class PlainLane:
    """Copies at once: for devices without streams, the CPU above all."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def buffer(self, steps: int, like: Tensor) -> Tensor:
        """See `Lane`."""
        return torch.empty((steps, like.numel()), dtype=like.dtype)

    def send(self, target: Tensor, theta: Tensor) -> None:
        """See `Lane`."""
        target.copy_(theta)

    def fetch(self, source: Tensor) -> Arrival:
        """See `Lane`. On the CPU the kept vector itself: nothing writes into it."""
        return lambda: source.to(self._device)


class CudaLane:
    """Copies on a separate stream, through pinned memory.

    Tensors that two streams touch are recorded on the second one: the allocator hands memory out again in the order of
    the stream it came from, and must wait for the other.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def buffer(self, steps: int, like: Tensor) -> Tensor:
        """See `Lane`."""
        return torch.empty((steps, like.numel()), dtype=like.dtype, pin_memory=True)

    def send(self, target: Tensor, theta: Tensor) -> None:
        """See `Lane`."""
        self._copies.wait_stream(torch.cuda.current_stream(self._device))  # theta must have been computed
        with torch.cuda.stream(self._copies):
            target.copy_(theta, non_blocking=True)
        theta.record_stream(self._copies)  # ... and stay until it is copied

    def fetch(self, source: Tensor) -> Arrival:
        """See `Lane`. Made on the copy stream, behind everything that was sent before."""
        with torch.cuda.stream(self._copies):
            theta = source.to(self._device, non_blocking=True)
            ready = self._copies.record_event()

        def arrive() -> Tensor:
            compute = torch.cuda.current_stream(self._device)
            compute.wait_event(ready)
            theta.record_stream(compute)
            return theta

        return arrive


class HostTrace:
    """`Trace` with all T vectors in host memory.

    Args:
        steps: T.
        like: theta_0 `(P,)`, for size, type and device.
        lane: None for the device's own.
    """

    def __init__(self, steps: int, like: Tensor, lane: Lane | None = None) -> None:
        cuda = like.device.type == "cuda"
        self._lane: Lane = lane or (CudaLane(like.device) if cuda else PlainLane(like.device))
        self._host = self._lane.buffer(steps, like)

    def put(self, step: int, theta: Tensor) -> None:
        """Start to copy a vector to the host."""
        self._lane.send(self._host[step], theta)

    def backward(self, advance: Advance) -> Generator[tuple[int, Tensor | None], None, None]:
        """Return the vectors last to first; the one before is copied meanwhile."""
        arrival = self._lane.fetch(self._host[-1])
        for step in reversed(range(len(self._host))):
            theta = arrival()
            if step:
                arrival = self._lane.fetch(self._host[step - 1])
            else:
                del arrival
            yield step, theta
            del theta

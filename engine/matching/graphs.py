"""CUDA graphs: what a step does, recorded once and replayed with other numbers.

A step starts some hundred kernels. For small batches that takes longer than the kernels; a replay starts all at once.

The compiler can record graphs itself (`triton.cudagraphs`), but keeps them by thread: compiled in a thread of its own,
as here, the second compilation of a process fails (torch 2.11), and what an abandoned thread recorded cannot be freed.
A recording here belongs to its function, and any thread may replay it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.runtime.out_of_memory import is_out_of_memory

LAUNCH_BOUND = 2**20
"""Batches of at most this many numbers are replayed: 100 images of 3x32x32 have 0.3 million, 256 have 0.8 million.

On an H200 a step of the first takes 0.6 of its time so. Larger ones have kernels long enough to hide the launches.
"""

LARGEST = 1 / 8
"""Share of the device's memory that a recording may hold. It keeps what its step needs for as long as it exists."""

WARM_UP = 2
"""Calls before the recording: compiling and choosing algorithms cannot be recorded."""


class Recorded(NamedTuple):
    """A recording."""

    inputs: Sequence[Tensor]
    """What a replay reads; copy the arguments there."""
    outputs: Any
    """What a replay writes: tensors in whatever structure the function returns."""
    replay: Callable[[], None]


def launch_bound(images: Tensor) -> bool:
    """Whether steps on batches like this are worth a recording."""
    return images.device.type == "cuda" and images.numel() <= LAUNCH_BOUND


class Memory:
    """What recordings share: the memory of their intermediate results, and the stream that fills it.

    A replay may then overwrite the results of all that share it.
    """

    def __init__(self) -> None:
        self._found: tuple[Any, torch.cuda.Stream] | None = None

    def of(self, device: torch.device) -> tuple[Any, torch.cuda.Stream]:
        """PyTorch's handle of the pool, and the stream."""
        self._found = self._found or (torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))
        return self._found


class Replayed:
    """A function of tensors, recorded at its first call with arguments of some shapes and replayed at every one.

    A result is overwritten by the next call of anything that shares the memory.

    Args:
        function: of tensors on one device, in memory order; reads and changes nothing else, and draws nothing.
        memory: to share.
    """

    def __init__(self, function: Callable[..., Any], memory: Memory) -> None:
        self._function = function
        self._memory = memory
        self._recorded: dict[tuple[tuple[torch.Size, torch.dtype], ...], Recorded | None] = {}

    def __call__(self, *arguments: Tensor) -> Any:
        """The function's result.

        Raises:
            Exception: the function does something that cannot be recorded; PyTorch's errors have no common base.
        """
        shapes = tuple((argument.shape, argument.dtype) for argument in arguments)
        if shapes not in self._recorded:
            self._recorded[shapes] = record(self._function, arguments, self._memory)
        recorded = self._recorded[shapes]
        if recorded is None:
            return self._function(*arguments)
        for own, given in zip(recorded.inputs, arguments, strict=True):
            own.copy_(given)
        recorded.replay()
        return recorded.outputs


_one_at_a_time = threading.Lock()
"""A process records one graph at a time; a thread whose caller has left may still be at it."""


def record(function: Callable[..., Any], arguments: Sequence[Tensor], memory: Memory) -> Recorded | None:
    """Record a call; None if the recording would hold too much memory."""
    device = arguments[0].device
    with _one_at_a_time, torch.cuda.device(device):  # a new thread starts on the first device
        pool, stream = memory.of(device)
        inputs = [argument.clone() for argument in arguments]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*inputs)
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved(device)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may use the device meanwhile, as NCCL's watchdog does.
                with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    outputs = function(*inputs)
            except Exception as error:
                if is_out_of_memory(error):
                    return None
                raise
        if (
            torch.cuda.memory_reserved(device) - before
            > LARGEST * torch.cuda.get_device_properties(device).total_memory
        ):
            del outputs
            graph.reset()
            torch.cuda.empty_cache()
            return None
    return Recorded(inputs, outputs, graph.replay)

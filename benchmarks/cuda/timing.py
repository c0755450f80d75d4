"""Times and peaks on the device."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.cuda.check import Check


class Times(NamedTuple):
    """Of repeated calls, seconds."""

    median: float
    least: float
    most: float
    samples: int

    @property
    def words(self) -> str:
        """The median, and the range where there is one."""
        if self.samples == 1:
            return f"{self.median:.4g} s (n = 1)"
        return f"{self.median:.4g} s ({self.least:.4g} to {self.most:.4g}, n = {self.samples})"


def seconds_of(check: Check, function: Callable[[], object], count: int, *, warm: bool = True) -> Times:
    """Time a function `count` times, after one call that does not count.

    Args:
        check: its device is waited for.
        function: what to time.
        count: how often.
        warm: make the call before.
    """
    if warm:
        function()
    check.sync()
    samples = []
    for _ in range(count):
        began = time.perf_counter()
        function()
        check.sync()
        samples.append(time.perf_counter() - began)
    return Times(statistics.median(samples), min(samples), max(samples), count)


def forget_peak(check: Check) -> None:
    """Measure the peak from here."""
    gc.collect()
    if check.cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_megabytes(check: Check) -> float:
    """The most that PyTorch's allocator gave out since `forget_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e6 if check.cuda else 0.0


def reserved_megabytes() -> float:
    """What PyTorch's allocator holds, pools of CUDA graphs included."""
    return torch.cuda.memory_reserved() / 1e6


def graph_launches(check: Check, function: Callable[[], object]) -> int:
    """CUDA graphs that a call replays; on a CPU none."""
    if not check.cuda:
        function()
        return 0
    count = 0
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal count
        count += 1
        replay(graph)

    torch.cuda.CUDAGraph.replay = counted  # type: ignore[method-assign]
    try:
        function()
        check.sync()
    finally:
        torch.cuda.CUDAGraph.replay = replay  # type: ignore[method-assign]
    return count

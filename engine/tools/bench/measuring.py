"""Time and memory on any device: CUDA's events and allocator, or the clock and the process's resident size."""

import contextlib
import time
from pathlib import Path

import psutil
import torch

from engine.runtime.subprocesses import peak_bytes


class Stopwatch:
    """Starts when made; `seconds` stops it, and waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._start = None
        self._device = device
        if device.type == "cuda":
            self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._start.record()
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Since it was made."""
        if self._device.type == "mps":
            torch.mps.synchronize()
        if self._start is None:
            return time.perf_counter() - self._began
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1000


class MemoryMeter:
    """Peak memory above what the process holds when this is made.

    On CUDA what PyTorch's allocator gave out; on the CPU the resident size.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.base = self._now()
        """Bytes at the beginning."""

    def _now(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return int(psutil.Process().memory_info().rss)

    def peak(self) -> int:
        """Bytes above `base` since the beginning or the last `forget`."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self.base
        return peak_bytes() - self.base

    def forget(self) -> None:
        """Start again from what is held now (on Linux and CUDA; elsewhere a peak cannot be forgotten)."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)

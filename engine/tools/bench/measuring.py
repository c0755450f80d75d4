"""Time and memory on any device: CUDA's events and allocator, or the clock and the process's resident size."""

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from engine.runtime.subprocesses import peak_bytes


class Stopwatch:
    """Starts when made; `seconds` stops it, and waits for the device.

    On CUDA, events on the device's own current stream: the process's current device may be another one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = None
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                self._start.record(torch.cuda.current_stream(device))
        self._cpu = time.process_time()
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Since it was made."""
        if self._device.type == "mps":
            torch.mps.synchronize()
        if self._start is None:
            return time.perf_counter() - self._began
        with torch.cuda.device(self._device):
            self._end.record(torch.cuda.current_stream(self._device))
            self._end.synchronize()
            return float(self._start.elapsed_time(self._end)) / 1000

    def cpu_seconds(self) -> float:
        """Processor time of all threads of this process since it was made."""
        return time.process_time() - self._cpu


class MemoryMeter:
    """Peak memory above what the process holds when this is made: before anything is warmed up or compiled.

    On the CPU the resident size. On CUDA what PyTorch's allocator gave out. A replayed CUDA graph allocates nothing:
    its memory is a pool that was set aside when it was recorded, so what of that pool is not given out counts, too.
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
            return torch.cuda.max_memory_allocated(self._device) + graph_pool_bytes(self._device) - self.base
        return peak_bytes() - self.base

    def forget(self) -> None:
        """Start again from what is held now (on Linux and CUDA; elsewhere a peak cannot be forgotten)."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def graph_pool_bytes(device: torch.device) -> int:
    """Bytes in the pools of recorded CUDA graphs on this device that no tensor has now."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return sum(
        int(segment["total_size"]) - int(segment["allocated_size"])
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == index and tuple(segment["segment_pool_id"]) != (0, 0)
    )


def stage_answer(watch: Stopwatch, meter: MemoryMeter, images: int, switches: dict[str, Any]) -> dict[str, Any]:
    """One measurement of a stage, as JSON."""
    return {
        "seconds": watch.seconds(), "cpu_seconds": watch.cpu_seconds(), "images": images, "peak": meter.peak(),
        "base": meter.base, "switches": switches,
    }  # fmt: skip

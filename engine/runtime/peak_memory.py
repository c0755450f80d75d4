"""The peak memory of a driver: of its process, and what PyTorch took of its CUDA device."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.runtime.subprocesses import peak_bytes


@dataclass(frozen=True)
class PeakMemory:
    """The greatest sizes since `forget_peak`, bytes."""

    peak_bytes: int
    """Resident memory. Where a system cannot forget a peak (macOS), since the process started."""
    peak_device_bytes: int | None
    """Taken by PyTorch's allocator; None where the device is not a CUDA one."""


def forget_peak(device: torch.device) -> None:
    """Measure peaks from what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak_memory(device: torch.device) -> PeakMemory:
    """The peaks so far."""
    taken = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
    return PeakMemory(peak_bytes(), taken)

"""The machine: which device, how many threads, which numeric switches; and a record of it for every run."""

import os
import platform
from typing import Any

import torch

from engine.errors import UsageError
from engine.memory import choose_memory
from engine.settings import ComputeSettings


def resolve_device(name: str) -> torch.device:
    """The device `compute.device` names; `auto` takes CUDA where there is one, else the CPU.

    Raises:
        UsageError: the device is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device.type]:
        raise UsageError(
            f"compute.device = {name} is not on this machine.",
            "Use auto or cpu; `tesla doctor` shows what PyTorch sees.",
        )
    return device


def configure(settings: ComputeSettings) -> torch.device:
    """Apply the process-wide switches and give the device. Call once, before the first kernel."""
    if settings.threads != "auto":
        torch.set_num_threads(settings.threads)
    device = resolve_device(settings.device)
    if device.type == "cpu":
        choose_memory("flat" if settings.memory == "flat" else "fast")
    if settings.deterministic and device.type != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """What a bit-exact repetition depends on, and what a reader of the results wants to know."""
    from engine import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "tesla": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
    }

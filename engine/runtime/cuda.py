"""Facts about CUDA devices: what their results depend on, which one a process has, and how much memory is left."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from engine.errors import UsageError

DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux tells the version of NVIDIA's driver."""


def cuda_facts(device: torch.device) -> dict[str, Any]:
    """What results on a CUDA device depend on besides PyTorch's version; None for what is unknown."""
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver_version(),
        "tf32": tf32_words(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def tf32_words() -> str:
    """What may use TF32 now: `convolutions and products`, one of them, or `off`."""
    switches = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    return " and ".join(name for name, on in switches.items() if on) or "off"


def driver_version() -> str | None:
    """Version of NVIDIA's driver, as 580.159.04; None where nothing tells it."""
    with suppress(OSError):
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text())
        if found:
            return found[1]
    # NVML's errors have no common base outside of its package, which may be missing or without a driver.
    with suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
        return version.decode() if isinstance(version, bytes) else str(version)
    return None


def identity(device: torch.device) -> str | None:
    """An identifier of this process's GPU, or part of one (MIG), on any host; None for a CPU or where it is unknown."""
    if device.type != "cuda":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = device.index or 0
    # All parts of a GPU may report the identifier of the whole.
    if number < len(visible) and visible[number].strip().startswith("MIG-"):
        return visible[number].strip()
    properties = torch.cuda.get_device_properties(device)
    if " MIG " in f" {properties.name} ":
        return None
    return f"GPU-{properties.uuid}" if getattr(properties, "uuid", None) else None


def check_different(identities: Iterable[str | None]) -> None:
    """Check that no two ranks have one GPU.

    Args:
        identities: of all ranks, in order.

    Raises:
        UsageError: names the ranks and the GPU.
    """
    ranks: dict[str, int] = {}
    for rank, found in enumerate(identities):
        if found is None:
            continue
        other = ranks.setdefault(found, rank)
        if other != rank:
            raise UsageError(
                f"Workers {other} and {rank} both use the GPU {found}.",
                "Give each its own, with CUDA_VISIBLE_DEVICES or the launcher's options (srun --gpus-per-task=1), or "
                "start fewer.",
            )


def free_bytes(device: torch.device) -> int:
    """Memory that PyTorch can still get on a CUDA device: what is free, and what it keeps without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free) + max(0, int(kept))

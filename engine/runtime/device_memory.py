"""Memory of a device: what is free, and giving back what PyTorch keeps for later.

A Mac's GPU shares the machine's memory. Metal recommends how much of it to use, and PyTorch counts what it has taken.
"""

import psutil
import torch


def free_memory(device: torch.device) -> int:
    """Bytes a program could still take on the device; on the CPU, memory that only caches files counts as free."""
    host = int(psutil.virtual_memory().available)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, min(host, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    return host


def release_cached(device: torch.device) -> None:
    """Give back the memory that PyTorch keeps for its next tensors on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()

"""The switches of a measured process: applied to published code and to ours alike, and read back for the record."""

import os
import platform
from typing import Any, cast

import torch

from engine.runtime.allocator import Policy, choose_memory
from engine.runtime.device import resolve_device
from engine.tools.bench.cases import Compute


def has_allocators(device: torch.device) -> bool:
    """Whether the allocator policies make a difference: tensors in the memory of a process with glibc."""
    return device.type == "cpu" and platform.libc_ver()[0] == "glibc"


def apply_switches(compute: Compute) -> torch.device:
    """Set threads, allocator, precision and determinism of this process, and give its device.

    The allocator's policy has to come before anything else chooses one. The rest may be applied again, after code that
    sets its own.
    """
    device = resolve_device(compute.device)
    if compute.threads:
        torch.set_num_threads(compute.threads)
    if device.type == "cpu":
        choose_memory(cast(Policy, compute.memory))
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = compute.precision in ("auto", "tf32")
    torch.backends.cuda.matmul.allow_tf32 = compute.precision == "tf32"
    torch.backends.cudnn.benchmark = False
    if device.type != "cpu":
        if compute.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
        # Kernels that only fill memory before it is overwritten: not part of the arithmetic.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def read_switches(compute: Compute, device: torch.device) -> dict[str, Any]:
    """What holds in this process, for its row of the record."""
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "allocator": compute.memory if has_allocators(device) else "system",
        "tf32_convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "tf32_products": device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def policy_words(compute: Compute, device: torch.device) -> str:
    """For titles: `float32`, `TF32 convolutions, not deterministic`."""
    if device.type != "cuda":
        return "float32"
    precision = {"auto": "TF32 convolutions", "float32": "float32", "tf32": "TF32"}[compute.precision]
    return f"{precision}, {'' if compute.deterministic else 'not '}deterministic"

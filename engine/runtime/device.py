"""The machine: which device, how many threads, which numeric switches; and a record of it for every run."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from engine.errors import UsageError
from engine.runtime.allocator import choose_memory
from engine.runtime.cuda import check_different, cuda_facts, identity
from engine.runtime.determinism import set_deterministic
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.distributed.ranks import Ranks
from engine.settings import ComputeSettings
from engine.storage.processes import processor_name


def resolve_device(name: str) -> torch.device:
    """The device `compute.device` names; `auto` takes CUDA where there is one, else the CPU (see `engine.runtime.mps`).

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
            f"compute.device = {name} is not available on this machine.",
            "Use auto or cpu; `tesla doctor` shows what PyTorch sees.",
        )
    return device


def own_device(name: str, place: RankEnvironment, *, bound: bool = False) -> torch.device:
    """The device of one process among several: the CPU for all, or one CUDA device for each of a host.

    Args:
        name: `compute.device`.
        place: the process.
        bound: whether a single visible device may be this process's own, as launchers like srun bind them. Whether it
            is, `check_devices` finds out once the processes are connected.

    Raises:
        UsageError: more workers than devices, or a device that cannot be shared.
    """
    device = resolve_device(name)
    if place.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(f"Several workers cannot share compute.device = {name}.", "Use cuda or cpu, or one worker.")
    count = torch.cuda.device_count()
    if bound and count == 1:
        return torch.device("cuda", 0)
    if device.index is not None and place.local_size > 1:
        raise UsageError(
            f"compute.device = {name} names one device for {place.local_size} workers.",
            "Use cuda, and choose devices with CUDA_VISIBLE_DEVICES.",
        )
    if place.local_size > count:
        raise UsageError(
            f"{place.local_size} workers need {place.local_size} CUDA devices; this machine has {count}.",
            f"Use at most {count} workers here, or compute.device = cpu.",
        )
    return torch.device("cuda", device.index if device.index is not None else place.local_rank)


def check_devices(ranks: Ranks, device: torch.device) -> None:
    """Check that no two ranks use one GPU. All ranks call it together.

    Raises:
        UsageError: names the two, and the GPU.
    """
    if ranks.size > 1:
        check_different(ranks.gathered(identity(device)))


def own_threads(place: RankEnvironment) -> int:
    """CPU threads of one process among several of a host: its cores divided."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    return max(1, cores // place.local_size)


def configure(settings: ComputeSettings, place: RankEnvironment | None = None) -> torch.device:
    """Apply the process-wide switches and give the device. Call once, before the first kernel."""
    place = place or RankEnvironment()
    device = own_device(settings.device, place, bound=True)
    if settings.threads != "auto":
        torch.set_num_threads(settings.threads)
    elif place.size > 1:
        torch.set_num_threads(own_threads(place))
    if device.type == "cuda":
        # Not only tensors: streams, events and memory pools of the current device are used where none is named.
        torch.cuda.set_device(device.index or 0)
    if device.type == "cpu":
        choose_memory("flat" if settings.memory == "flat" else "fast")
    set_precision(tf32=settings.precision == "tf32")
    set_deterministic(settings.deterministic and device.type != "cpu")
    return device


def set_precision(*, tf32: bool) -> None:
    """Let convolutions and matrix products of this process use TF32 on CUDA, or make them keep float32.

    cuDNN takes TF32 unless it is told not to; here it is a choice, recorded with the run. PyTorch refuses to read
    these switches once the newer `fp32_precision` was set: nothing here sets that.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def takes_tf32(tensor: torch.Tensor) -> bool:
    """Whether convolutions of such tensors use TF32 in this process."""
    return tensor.device.type == "cuda" and tensor.dtype == torch.float32 and bool(torch.backends.cudnn.allow_tf32)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Keep float32 within."""
    was = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    set_precision(tf32=False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = was


def environment(device: torch.device) -> dict[str, Any]:
    """What a bit-exact repetition depends on, and what a reader of the results needs to know."""
    from engine import __version__

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "tesla": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        **(cuda_facts(device) if device.type == "cuda" else {}),
    }

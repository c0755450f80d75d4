"""Copies from the host to the device that the host does not wait for.

CUDA copies pinned memory while the host continues; from other memory, or without `non_blocking`, the host
waits until everything that was started before is done. PyTorch's allocator of pinned memory keeps a block until the
copies from it are done, so it need not be kept alive here.
"""

import torch
from torch import Tensor, nn


def _pins(device: torch.device) -> bool:
    """Whether pinned memory makes a difference.

    MPS shares the memory of the host. There the host has to wait: PyTorch would read the memory later, whatever it
    holds by then (https://github.com/pytorch/pytorch/issues/189690).
    """
    return device.type not in ("cpu", "mps", "meta")


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the host on the device, in another type if one is given; the tensor itself if it is there already."""
    if tensor.device.type != "cpu" or not _pins(device):
        return tensor.to(device, dtype)
    return tensor.pin_memory().to(device, non_blocking=True).to(dtype or tensor.dtype)


def module_to_device(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move a network that is on the host: its parameters, and its buffers with running statistics."""
    if _pins(device):
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.pin_memory()
    return module.to(device, dtype, non_blocking=_pins(device))

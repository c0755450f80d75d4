"""Tensors on their way from the host to a device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A copy on the device, which the host does not wait for; the tensor itself if it is there already.

    The tensor may be dropped or rewritten at once. On MPS the host waits: PyTorch reads the memory of the tensor later
    there, whatever it holds by then (https://github.com/pytorch/pytorch/issues/189690).
    """
    return tensor.to(device, non_blocking=torch.device(device).type != "mps")

"""Whether numbers are numbers: no NaN, no infinity. One pass, no copy, one read by the host."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_finite(tensor: "Tensor") -> bool:
    """Whether every element is finite; waits for the device. Integers are, and so is nothing at all."""
    return not non_finite({"": tensor})


def non_finite(tensors: "Mapping[str, Tensor]") -> list[str]:
    """Names of the tensors that hold a NaN or an infinity."""
    import torch  # at its first use: a process that only looks at runs does not load it

    found = []
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            values = tensor.detach()
            # The extremes hand a NaN through (not always on MPS), and need no table of truths as large as the tensor.
            extremes = values if values.device.type == "mps" else torch.stack(torch.aminmax(values))
            if not bool(torch.isfinite(extremes).all()):
                found.append(name)
    return found

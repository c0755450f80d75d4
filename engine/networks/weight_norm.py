"""Weight norm in a form that can be differentiated twice.

The fused kernel of PyTorch 2.13 takes the norms for constants in its second derivative, which is wrong.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode


def has_weight_norm(model: nn.Module) -> bool:
    """Whether a module has PyTorch's weight norm, as a parametrisation or as the older hook."""
    return any(
        isinstance(module, _WeightNorm)
        or any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values())
        for module in model.modules()
    )


def differentiable_weight_norm(known: bool) -> AbstractContextManager[Any]:
    """Use the plain form inside the block, where a module is known to have it: every operation is looked at."""
    return _Plain() if known and torch.is_grad_enabled() and not torch.compiler.is_compiling() else nullcontext()


class _Plain(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        return (_weight_norm if function is torch._weight_norm else function)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))

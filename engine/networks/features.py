"""The features of a network: the inputs of its last linear layer."""

from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UsageError


class Features:
    """`features(images) -> (B, F)` of a module, differentiable in the images and the module's parameters.

    Args:
        model: any module whose logits come from a linear layer.

    Raises:
        UsageError: it has no linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UsageError(
                f"The network {type(model).__name__} has no linear layer, so its features are undefined.",
                "Methods that compare features (dm, frepo) need a network that ends in nn.Linear.",
            )
        self.model = model
        self._seen: list[Tensor] = []
        linear[-1].register_forward_pre_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen.append(inputs[0])

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images `(B, C, H, W)`, a row each."""
        self._seen.clear()
        self.model(images)
        if not self._seen:
            raise UsageError("The network's last linear layer is not used in its forward pass.")
        return torch.flatten(self._seen.pop(), 1)

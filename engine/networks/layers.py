"""Instance norm and the pooling of the ConvNets."""

import torch
from torch import Tensor, nn


class InstanceNorm(nn.GroupNorm):
    """Affine instance norm over `(H, W)`: `GroupNorm(channels, channels)`, with its parameter names."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)


class HalvingPool(nn.AvgPool2d):
    """Mean of every 2x2 pixels; an odd last row or column is left out."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        if images.device.type == "cuda":
            # The backward of CUDA's own kernel takes a quarter of a teacher's step.
            return mean_pool(images, 2)
        pooled: Tensor = super().forward(images)
        return pooled


def mean_pool(images: Tensor, side: int) -> Tensor:
    """Mean of every `side` x `side` pixels of `(B, C, H, W)`, as a mean over two axes of a view."""
    height, width = images.shape[2] // side, images.shape[3] // side
    whole = images[:, :, : side * height, : side * width]
    return torch.mean(whole.reshape(*images.shape[:2], height, side, width, side), (3, 5))

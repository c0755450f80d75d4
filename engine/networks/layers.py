"""Instance norm and average pooling in two spellings: PyTorch's kernels, and plain arithmetic for the compiler.

Eager, one kernel for a whole layer is fastest. Compiled, a kernel is a wall: the compiler decomposes it its own way
under forward mode, and its backward does not fuse with the neighbours. Written out, a norm needs two passes over its
input in each direction and the pooling's backward vectorises (measured in docs/performance.md).
"""

import torch
from torch import Tensor, nn


class InstanceNorm(nn.GroupNorm):
    """Affine instance norm over `(H, W)`, as `GroupNorm(channels, channels)`, with its parameter names."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise `(B, C, H, W)` over its pixels."""
        if torch.compiler.is_compiling():
            return instance_norm(images, self.weight, self.bias, self.eps)
        return super().forward(images)


def instance_norm(images: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance norm of `(B, C, H, W)` from the moments of the distances to one pixel.

    Both moments come from one pass. The shift keeps the subtraction E[d^2] - E[d]^2 from cancelling where a channel is
    nearly constant; the result does not depend on it, so no gradient flows through it.
    """
    pixels = images.movedim(1, 3)
    middle = pixels.shape[1] // 2, pixels.shape[2] // 2
    distances = pixels - pixels[:, middle[0], middle[1]][:, None, None].detach()
    mean = distances.mean((1, 2), keepdim=True)
    variance = distances.square().mean((1, 2), keepdim=True) - mean.square()
    scale = torch.rsqrt(variance + eps) * weight
    return (distances * scale + (bias - mean * scale)).movedim(3, 1)


class HalvingPool(nn.AvgPool2d):
    """Mean of every 2x2 pixels; an odd last row or column is left out."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        if torch.compiler.is_compiling():
            return halving_pool(images)
        pooled: Tensor = super().forward(images)
        return pooled


def halving_pool(images: Tensor) -> Tensor:
    """As `HalvingPool`, as a mean over two axes of a view."""
    height, width = images.shape[2] // 2, images.shape[3] // 2
    even = images[:, :, : 2 * height, : 2 * width]
    return even.reshape(*images.shape[:2], height, 2, width, 2).mean((3, 5))


class Rectifier(nn.ReLU):
    """max(0, x)."""

    def forward(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)`, pixel by pixel."""
        if torch.compiler.is_compiling():
            # The compiler keeps the result for the backward pass in the order it is computed in. All around it
            # channels come last; kept in another order, its sixteen loads a vector cost more than the arithmetic.
            return torch.relu(images.movedim(1, 3)).movedim(3, 1)
        rectified: Tensor = super().forward(images)
        return rectified

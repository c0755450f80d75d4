"""The ConvNet of dataset distillation: [conv 3x3 - norm - ReLU - average pool 2x2] x depth, linear."""

import math

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.networks.layers import HalvingPool, InstanceNorm
from engine.networks.sizes import padded_side


class ConvNet(nn.Module):
    """ConvNetD{depth} as in DC, DSA, MTT and TESLA (App. A.5).

    Instance norm is `GroupNorm(width, width)`, affine. A one-channel 28x28 input is padded to 32x32 by the first
    convolution (pad 3 instead of 1), as those papers do for MNIST.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels.
        width: channels of every block.
        depth: blocks; each halves the map.

    Raises:
        UsageError: the images are too small for that many halvings.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        side = padded_side(channels, resolution)
        first_padding = 1 + (side - resolution) // 2
        # The last norm needs a map of at least 2x2: over one pixel it is zero whatever the image.
        most = int(math.log2(side))
        if depth > most:
            raise UsageError(
                f"network.depth = {depth} is too deep for {resolution}x{resolution} images, which each block halves.",
                f"The maximum depth for this resolution is {most}.",
            )
        layers: list[nn.Module] = []
        inputs = channels
        for block in range(depth):
            padding = first_padding if block == 0 else 1
            layers += [
                nn.Conv2d(inputs, width, 3, padding=padding),
                self.norm(width, side),
                nn.ReLU(),
                HalvingPool(),
            ]
            inputs = width
            side //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, classes)

    def norm(self, width: int, side: int) -> nn.Module:
        """The norm of a block with maps `(width, side, side)`."""
        return InstanceNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits


class ConvNetBatchNorm(ConvNet):
    """`ConvNet` with batch norm, affine, with running statistics.

    Buffers: `running_mean`, `running_var` (momentum 0.1) and `num_batches_tracked` of every block. In training mode,
    as teachers and students are, the statistics are those of the batch; evaluation trains, and then measures with the
    running ones.
    """

    def norm(self, width: int, side: int) -> nn.Module:
        """See `ConvNet`."""
        return nn.BatchNorm2d(width)


class ConvNetLayerNorm(ConvNet):
    """`ConvNet` with layer norm over `(width, side, side)`, with a scale and a shift for each of those numbers."""

    def norm(self, width: int, side: int) -> nn.Module:
        """See `ConvNet`."""
        return nn.LayerNorm([width, side, side])


class ConvNetNoNorm(ConvNet):
    """`ConvNet` without norms."""

    def norm(self, width: int, side: int) -> nn.Module:
        """See `ConvNet`."""
        return nn.Identity()

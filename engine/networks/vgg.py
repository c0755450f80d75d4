"""VGG11 with instance norm, as dataset condensation evaluates with it.

Source of the shapes: `VGG11` in networks.py of github.com/VICO-UoE/DatasetCondensation, for images of 32x32.
"""

import torch
from torch import Tensor, nn

from engine.networks.layers import InstanceNorm
from engine.networks.sizes import check_fixed, padded_side

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Convolutions of each stage, in multiples of the width; max pooling halves the map after a stage."""


class VGG11(nn.Module):
    """Eight [conv 3x3 - instance norm - ReLU] in five stages (Simonyan & Zisserman, 2015), one linear layer.

    Instance norm over one pixel is zero whatever the image, so a map of less than 4x4 is not halved before another
    convolution; of 32x32 images one pixel is left. Larger images leave more, and the linear layer sees all of them.
    9,231,114 parameters for 32x32 RGB images of 10 classes.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels. One-channel 28x28 images are padded to 32x32.
        width: channels of the first convolution; those of the others are 2, 4 and 8 times that.
        depth: only None: the layers are fixed.

    Raises:
        UsageError: a depth was given.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 64, depth: int | None = None) -> None:
        super().__init__()
        check_fixed("vgg11", depth=depth)
        side = padded_side(channels, resolution)
        padding = 1 + (side - resolution) // 2
        layers: list[nn.Module] = []
        inputs = channels
        for number, stage in enumerate(STAGES, 1):
            for multiple in stage:
                outputs = multiple * width
                layers += [nn.Conv2d(inputs, outputs, 3, padding=padding), InstanceNorm(outputs), nn.ReLU()]
                inputs, padding = outputs, 1
            if side >= (4 if number < len(STAGES) else 2):
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits

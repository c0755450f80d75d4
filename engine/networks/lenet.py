"""LeNet, as dataset condensation evaluates with it.

Source of the shapes: `LeNet` in networks.py of github.com/VICO-UoE/DatasetCondensation, for images of 32x32.
"""

import torch
from torch import Tensor, nn

from engine.networks.sizes import check_fixed, check_side, padded_side


class LeNet(nn.Module):
    """Two convolutions 5x5 with ReLU and max pooling, three linear layers (after LeCun et al., 1998).

    62,006 parameters for 32x32 RGB images of 10 classes.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels, 16 or more. One-channel 28x28 images are padded to 32x32.
        width: only None: the layers are fixed.
        depth: only None.

    Raises:
        UsageError: a width or depth was given, or the images are smaller.
    """

    def __init__(
        self, channels: int, classes: int, resolution: int, width: int | None = None, depth: int | None = None
    ) -> None:
        super().__init__()
        check_fixed("lenet", width=width, depth=depth)
        check_side("lenet", resolution, 16)
        side = padded_side(channels, resolution)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=(side - resolution) // 2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        left = ((side - 4) // 2 - 4) // 2
        self.classifier = nn.Sequential(
            nn.Linear(16 * left * left, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits

"""AlexNet for small images, as dataset condensation evaluates with it.

Source of the shapes: `AlexNet` in networks.py of github.com/VICO-UoE/DatasetCondensation, for images of 32x32.
"""

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.networks.sizes import check_fixed, check_side, padded_side


class AlexNet(nn.Module):
    """Five convolutions with ReLU, three max poolings, one linear layer; no norm, no dropout.

    1,872,202 parameters for 32x32 RGB images of 10 classes.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels, 8 or more. One-channel 28x28 images are padded to 32x32.
        width: channels of the first convolution, an even number; the others have 1.5 and 2 times as many.
        depth: only None: the layers are fixed.

    Raises:
        UsageError: a depth or an odd width was given, or the images are smaller.
    """

    def __init__(
        self, channels: int, classes: int, resolution: int, width: int = 128, depth: int | None = None
    ) -> None:
        super().__init__()
        check_fixed("alexnet", depth=depth)
        check_side("alexnet", resolution, 8)
        if width % 2:
            raise UsageError(f"network.width = {width} is odd; alexnet has layers of 1.5 times the width.")
        side = padded_side(channels, resolution)
        middle, wide = width // 2 * 3, 2 * width
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2 + (side - resolution) // 2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, middle, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(middle, wide, 3, padding=1), nn.ReLU(),
            nn.Conv2d(wide, middle, 3, padding=1), nn.ReLU(),
            nn.Conv2d(middle, middle, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Linear(middle * (side // 8) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits

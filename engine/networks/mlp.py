"""The multilayer perceptron of dataset condensation.

Source of the shapes: `MLP` in networks.py of github.com/VICO-UoE/DatasetCondensation.
"""

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Hidden linear layers with ReLU on the pixels, and a linear layer.

    411,146 parameters for 32x32 RGB images of 10 classes.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels.
        width: units of a hidden layer.
        depth: hidden layers.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels * resolution**2
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(self.body(torch.flatten(images, 1)))
        return logits

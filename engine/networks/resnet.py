"""ResNet18 with the CIFAR stem and instance norm, as DC, DSA and MTT use it for cross-architecture evaluation.

Instance instead of batch norm leaves no running statistics: the network is a pure function of its parameters.
"""

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.networks.layers import InstanceNorm

STAGES = 4
BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = InstanceNorm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = InstanceNorm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), InstanceNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, inputs, H, W)` to `(B, outputs, H/stride, W/stride)`."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Stem 3x3 stride 1 without pooling, four stages of two blocks, global average pooling, linear.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels.
        width: channels of the first stage; each later stage doubles them.
        depth: only None: the 18 layers are fixed.

    Raises:
        UsageError: a depth was given.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 64, depth: int | None = None) -> None:
        super().__init__()
        if depth is not None:
            raise UsageError("network.depth does not apply to resnet18.", "Leave it unset.")
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), InstanceNorm(width), nn.ReLU())
        blocks: list[nn.Module] = []
        inputs, side = width, resolution
        for stage in range(STAGES):
            outputs = width * 2**stage
            # Instance norm over a single pixel is zero whatever the image, so small images are not shrunk below 2x2.
            stride = 2 if stage > 0 and side >= 4 else 1
            side = -(-side // stride)
            for block in range(BLOCKS):
                blocks.append(BasicBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(self.stages(self.stem(images)).mean(dim=(2, 3)))
        return logits

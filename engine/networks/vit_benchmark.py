"""The vision transformer of the dataset-condensation benchmark, with dropout.

Source of the shapes: networks/vit.py of github.com/justincui03/dc_benchmark (TESLA's first author), which follows
github.com/lucidrains/vit-pytorch and evaluates with patches of 4, dim 512, 6 blocks, 8 heads, MLP 512, dropout 0.1.
"""

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.networks.dropout import Dropout

HEADS = 8
PATCH = 4
DROPOUT = 0.1


class Attention(nn.Module):
    """Multi-head self-attention, written out in products and a softmax."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(B, N, width)` to the same shape."""
        batch, count, width = tokens.shape
        split = self.qkv(tokens).view(batch, count, 3, HEADS, width // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        weights = (query @ key.mT * (width // HEADS) ** -0.5).softmax(dim=-1)
        found: Tensor = self.out((weights @ value).transpose(1, 2).reshape(batch, count, width))
        return found


class Block(nn.Module):
    """Pre-norm attention and MLP of the same width, with dropout after each linear layer but the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width), Dropout(DROPOUT))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), Dropout(DROPOUT),
            nn.Linear(width, width), Dropout(DROPOUT),
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(B, N, width)` to the same shape."""
        tokens = tokens + self.attention(tokens)
        result: Tensor = tokens + self.mlp(tokens)
        return result


class BenchmarkViT(nn.Module):
    """Patches of 4x4, class token, learned positions, blocks, layer norm and linear head on the class token.

    9,523,722 parameters for 32x32 RGB images of 10 classes. Dropout 0.1 after the positions and in every block, with
    counted masks (see dropout.py); nothing is kept in buffers.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels, a multiple of 4.
        width: embedding and MLP size, a multiple of 8 (the heads).
        depth: transformer blocks.

    Raises:
        UsageError: a width or resolution that is not such a multiple.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 512, depth: int = 6) -> None:
        super().__init__()
        if width % HEADS:
            raise UsageError(
                f"network.width = {width} is not a multiple of {HEADS}, the attention heads of vit-benchmark."
            )
        if resolution % PATCH:
            raise UsageError(
                f"vit-benchmark cuts images into patches of {PATCH}x{PATCH} pixels; "
                f"{resolution}x{resolution} images do not divide.",
                f"Set dataset.resolution to a multiple of {PATCH}, or use vit.",
            )
        self.patches = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (resolution // PATCH) ** 2 + 1, width))
        self.body = nn.Sequential(Dropout(DROPOUT), *(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        patches = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.body(tokens)[:, 0]))
        return logits

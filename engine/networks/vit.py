"""A small vision transformer on Kornia's, of the size that is trained on CIFAR from scratch."""

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.errors import UsageError

HEADS = 8


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al., 2021), class token and linear head, no dropout.

    Patches are an eighth of the side (4 pixels at 32, 8 at 64), so there are 64 of them; 28x28 images have 7 x 7
    patches of 4 pixels.

    Args:
        channels: C of the images.
        classes: K.
        resolution: side of the images, pixels.
        width: embedding size, a multiple of 8 (the heads).
        depth: transformer blocks.

    Raises:
        UsageError: a width that is no multiple of the heads, or a side without a fitting patch.
    """

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 192, depth: int = 6) -> None:
        super().__init__()
        from kornia.models.vit import VisionTransformer  # over a second to import; only those who use it wait

        if width % HEADS:
            raise UsageError(f"network.width = {width} is not a multiple of {HEADS}, the attention heads of vit.")
        target = max(1, round(resolution / 8))
        patch = next((p for p in sorted(range(1, resolution), key=lambda p: abs(p - target)) if resolution % p == 0), 1)
        self.body = VisionTransformer(
            image_size=resolution, patch_size=patch, in_channels=channels, embed_dim=width, depth=depth, num_heads=HEADS
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        # Fused attention has no second derivative; the plain one has.
        with sdpa_kernel(SDPBackend.MATH):
            tokens: Tensor = self.body(images)
        self.body.encoder.results = []  # Kornia keeps every block's output: a whole graph, alive until the next call
        logits: Tensor = self.head(tokens[:, 0])
        return logits

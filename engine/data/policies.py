"""AutoAugment and RandAugment (Cubuk et al. 2018, 2020), as the paper's App. A.9 tries them in evaluation; by Kornia.

They act on RGB pixels in [0, 1]: images go there and back through the input space, grey ones as three equal channels
whose mean comes back. Values outside [0, 1] are clipped, as they would be in a picture. Not every operation is
differentiable, so only networks are trained with them.
"""

from typing import Literal

from torch import Tensor, nn

from engine.data.space import InputSpace
from engine.runtime.rng import forked_global_rng

PolicyName = Literal["autoaugment", "randaugment"]

SMALL = 32
"""Side up to which AutoAugment takes the policy found on CIFAR-10, else the one found on ImageNet."""
OPERATIONS, MAGNITUDE = 2, 10
"""RandAugment's N, and its M of Kornia's 30."""


class PolicyAugment:
    """A random policy over batches of an input space.

    Args:
        name: which.
        space: of the images.
        resolution: their side, pixels.
    """

    def __init__(self, name: PolicyName, space: InputSpace, resolution: int) -> None:
        from kornia.augmentation.auto import AutoAugment, RandAugment

        self._space = space
        self._policy: nn.Module = (
            RandAugment(n=OPERATIONS, m=MAGNITUDE)
            if name == "randaugment"
            else AutoAugment("cifar10" if resolution <= SMALL else "imagenet")
        )

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Augmented images `(B, C, H, W)`, a function of images and seed."""
        pixels = self._space.decode(images).clamp_(0, 1)
        grey = pixels.shape[1] == 1
        with forked_global_rng(seed):  # Kornia draws from the global generator
            changed: Tensor = self._policy(pixels.expand(-1, 3, -1, -1) if grey else pixels)
        return self._space.encode(changed.mean(dim=1, keepdim=True) if grey else changed)

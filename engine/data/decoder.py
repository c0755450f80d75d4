"""How stored synthetic images become those that networks see: the interface, and images that are stored as seen.

The gradient flows back through `decode`, so that what is stored is what is learned. Another parameterisation is another
`Decoder`: a module with a function `(settings, shape) -> Decoder`, and its line in `engine.settings.decoders`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from engine.settings import DistillSettings
from engine.settings.code import load_object
from engine.settings.decoders import DECODERS


class Decoder(Protocol):
    """How stored images become those that networks see."""

    @property
    def views(self) -> int:
        """Images that one stored image decodes to."""

    def decode(self, stored: Tensor, view: Tensor) -> Tensor:
        """One view of every stored image.

        Args:
            stored: `(B, C, H, W)` in the input space.
            view: which, `(B,)`, int64 in 0 .. views - 1, on the same device.

        Returns:
            `(B, C, H, W)`, differentiable with deterministic derivatives.
        """

    def pack(self, images: Tensor) -> Tensor:
        """Stored images `(N, C, H, W)` from full-size images `(N * views, C, H, W)`, the views of each in a row."""

    def picture(self, stored: Tensor) -> Tensor:
        """Stored images as people look at them, `(N, C, H, W)` in the input space."""


class Whole:
    """`Decoder` of images that are stored as they are seen."""

    views = 1

    def decode(self, stored: Tensor, view: Tensor) -> Tensor:
        """See `Decoder`."""
        return stored

    def pack(self, images: Tensor) -> Tensor:
        """See `Decoder`."""
        return images

    def picture(self, stored: Tensor) -> Tensor:
        """See `Decoder`."""
        return stored


@dataclass(frozen=True, eq=False)
class View:
    """A deterministic map of stored images to what a student sees of them: one view of each, augmented."""

    decoder: Decoder
    view: Tensor
    """Which view of each image, `(B,)`, on the device."""
    augment: Callable[[Tensor], Tensor]

    def __call__(self, stored: Tensor) -> Tensor:
        """Augmented images `(B, C, H, W)`; the same bits for the same images."""
        return self.augment(self.decoder.decode(stored, self.view))


def decoder_of(distill: DistillSettings, shape: tuple[int, int, int]) -> Decoder:
    """The decoder of `distill.decoder`.

    Args:
        distill: the settings.
        shape: (C, H, W) of the images.

    Raises:
        UsageError: the decoder cannot have such images.
    """
    make = cast(Callable[[DistillSettings, tuple[int, int, int]], Decoder], load_object(DECODERS[distill.decoder]))
    return make(distill, shape)


def decode_all(decoder: Decoder, stored: Tensor) -> Tensor:
    """Every view of every stored image, `(N * views, C, H, W)`, the views of an image in a row."""
    if isinstance(decoder, Whole):
        return stored
    views = torch.arange(decoder.views, device=stored.device).repeat(len(stored))
    return decoder.decode(stored.repeat_interleave(decoder.views, dim=0), views)

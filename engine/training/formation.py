"""Multi-formation (IDC; Kim et al., ICML 2022): a stored image holds f x f smaller ones, its views.

A view is cut out and enlarged bilinearly to full size before augmentation, so that a set of N stored images is trained
on as N f^2 images. `Decoder` is the interface: another parameterisation of the stored images is another class of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.errors import UsageError


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
            `(B, C, H, W)`; a linear, differentiable map with deterministic derivatives.
        """

    def pack(self, images: Tensor) -> Tensor:
        """Stored images `(N, C, H, W)` from full-size images `(N * views, C, H, W)`, the views of each in a row."""


class Whole:
    """`Decoder` of images that are stored as they are seen."""

    views = 1

    def decode(self, stored: Tensor, view: Tensor) -> Tensor:
        """See `Decoder`."""
        return stored

    def pack(self, images: Tensor) -> Tensor:
        """See `Decoder`."""
        return images


class Formation:
    """`Decoder` of f x f views in rows, as a product of each view's rows and columns with interpolation weights.

    Products instead of `F.interpolate`: the derivative of that is not deterministic on CUDA.

    Args:
        factor: f.
        side: H = W, pixels; a multiple of f.
    """

    def __init__(self, factor: int, side: int) -> None:
        self.factor = factor
        self.side = side
        self.views = factor * factor
        self._weights: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def decode(self, stored: Tensor, view: Tensor) -> Tensor:
        """See `Decoder`."""
        weights = self._enlarging(stored)
        rows = weights[torch.div(view, self.factor, rounding_mode="floor")]
        columns = weights[view % self.factor]
        return torch.matmul(torch.matmul(rows[:, None], stored), columns.mT[:, None])

    def pack(self, images: Tensor) -> Tensor:
        """See `Decoder`. Each view is the area average of its image."""
        factor, small = self.factor, self.side // self.factor
        count, channels = len(images) // self.views, images.shape[1]
        reduced = images.unflatten(3, (small, factor)).unflatten(2, (small, factor)).mean(dim=(3, 5))
        tiles = reduced.view(count, factor, factor, channels, small, small)
        packed: Tensor = tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, self.side, self.side)
        return packed

    def _enlarging(self, like: Tensor) -> Tensor:
        """`(f, side, side)`: row y of matrix i has the weights of the stored rows in row y of view i, enlarged."""
        key = (like.device, like.dtype)
        if key not in self._weights:
            small = self.side // self.factor
            # Centres of pixels aligned, edges repeated: `F.interpolate(mode="bilinear", align_corners=False)`.
            centre = ((torch.arange(self.side, dtype=torch.float64) + 0.5) / self.factor - 0.5).clamp(0, small - 1)
            low = centre.floor().long().clamp(max=max(small - 2, 0))
            share = centre - low
            one = torch.zeros(self.side, small, dtype=torch.float64)
            one[torch.arange(self.side), low] += 1 - share
            one[torch.arange(self.side), (low + 1).clamp(max=small - 1)] += share
            every = torch.zeros(self.factor, self.side, self.side, dtype=torch.float64)
            for i in range(self.factor):
                every[i, :, i * small : (i + 1) * small] = one
            self._weights[key] = every.to(like.dtype).to(like.device)
        return self._weights[key]


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


def decoder(factor: int, side: int) -> Decoder:
    """The decoder of `distill.formation`.

    Args:
        factor: f; 1 for images that are stored as they are seen.
        side: of the images, pixels.

    Raises:
        UsageError: the side is not a multiple of f.
    """
    if factor == 1:
        return Whole()
    if side % factor:
        fits = ", ".join(str(f) for f in range(2, side // 2 + 1) if side % f == 0)
        raise UsageError(
            f"distill.formation = {factor} does not divide the side of the images, {side} pixels.",
            f"Set one of {fits}." if fits else "Set distill.formation = 1.",
        )
    return Formation(factor, side)


def decode_all(decoder: Decoder, stored: Tensor) -> Tensor:
    """Every view of every stored image, `(N * views, C, H, W)`, the views of an image in a row."""
    if decoder.views == 1:
        return stored
    views = torch.arange(decoder.views, device=stored.device).repeat(len(stored))
    return decoder.decode(stored.repeat_interleave(decoder.views, dim=0), views)

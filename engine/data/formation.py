"""Multi-formation (IDC; Kim et al., ICML 2022): a stored image holds f x f smaller ones, its views.

A view is cut out and enlarged bilinearly to full size before augmentation, so that a set of N stored images is trained
on as N f^2 images. A side that f does not divide is refused: IDC pads it with grey, which no view could learn to use.
"""

import torch
from torch import Tensor

from engine.data.decoder import Decoder, Whole
from engine.errors import UsageError
from engine.settings import DistillSettings

MOST = 16
"""Largest f, as `distill.formation` says."""


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

    def picture(self, stored: Tensor) -> Tensor:
        """See `Decoder`. As it is: f x f small images."""
        return stored

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


def formation(distill: DistillSettings, shape: tuple[int, int, int]) -> Decoder:
    """The decoder of `distill.formation`.

    Args:
        distill: the settings.
        shape: (C, H, W) of the images; H = W.

    Raises:
        UsageError: the side is not a multiple of f.
    """
    factor, side = distill.formation, shape[2]
    if factor == 1:
        return Whole()
    if side % factor:
        fits = ", ".join(str(f) for f in range(2, min(side // 2, MOST) + 1) if side % f == 0)
        raise UsageError(
            f"distill.formation = {factor} does not divide the side of the images, {side} pixels.",
            f"Set one of {fits}." if fits else "Set distill.formation = 1.",
        )
    return Formation(factor, side)

"""DSA, differentiable augmentation, as in trajectory matching: one operation per batch, parameters per image.

An augmentation is drawn once and can be applied any number of times with the same result: its random numbers are
recorded in it. This lets the second sweep of the gradient replay a batch instead of keeping its graph.
Operations and distributions are those of DSA (Zhao & Bilen, 2021) as MTT and TESLA apply them. They act on normalised
or whitened tensors, so nothing here assumes values in [0, 1].
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data.resampling import linear_map, resampled, shifted
from engine.errors import UsageError
from engine.runtime.transfer import to_device

SCALE = 1.2
"""Largest scaling; the smallest is 1/1.2."""
ANGLE = 15.0
"""Largest rotation, degrees."""
SHIFT = 0.125
"""Largest crop shift as a share of the side."""
HOLE = 0.5
"""Side of the cutout hole as a share of the side."""
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5


@dataclass(frozen=True, eq=False)
class Augment:
    """A drawn augmentation: a deterministic, differentiable map of batches `(B, C, H, W)` of the drawn shape."""

    op: str
    """Its operation; `identity` if none was drawn."""
    parameters: tuple[Tensor, ...]
    """Recorded random numbers, first axis B."""

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented images; the same bits for the same images."""
        return images if self.op == "identity" else _APPLY[self.op](images, *self.parameters)

    def rows(self, part: slice) -> "Augment":
        """The same map for some of the images; an image is augmented alike in any part."""
        return Augment(self.op, tuple(values[part] for values in self.parameters))


def draw_augment(
    generator: torch.Generator, ops: Sequence[str], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Augment:
    """Draw one operation uniformly and its parameters for every image.

    Args:
        generator: a CPU generator; draws are the same whatever the device.
        ops: operations to choose from; none gives the identity.
        shape: (B, C, H, W) of the batch.
        device: where the batch will be.

    Raises:
        UsageError: an unknown operation.
    """
    for op in ops:
        if op not in _DRAW:
            near = difflib.get_close_matches(op, _DRAW, n=1)
            raise UsageError(
                f"There is no augmentation {op!r}. Known: {', '.join(_DRAW)}.",
                f"Did you mean {near[0]}?" if near else "",
            )
    if not ops:
        return Augment("identity", ())
    op = ops[int(torch.randint(len(ops), (), generator=generator))]
    drawn = _DRAW[op](generator, shape[0], shape[2])
    return Augment(op, tuple(to_device(tensor, torch.device(device)) for tensor in drawn))


def _uniform(generator: torch.Generator, count: int) -> Tensor:
    return torch.rand(count, generator=generator)


def _draw_color(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    return tuple(_uniform(generator, count) for _ in range(3))


def _draw_crop(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    most = int(SHIFT * side + 0.5)
    shifts = torch.randint(-most, most + 1, (2, count), generator=generator)
    return shifts[0], shifts[1]


def _draw_cutout(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    hole = int(HOLE * side + 0.5)
    corners = torch.randint(0, side + (1 - hole % 2), (2, count), generator=generator) - hole // 2
    return corners[0], corners[1]


def _draw_flip(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    return (_uniform(generator, count) < 0.5,)


def _draw_scale(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    low = 1 / SCALE
    factor_y, factor_x = (low + _uniform(generator, count) * (SCALE - low) for _ in range(2))
    zero = torch.zeros(count)
    return (_matrices(factor_x, zero, zero, factor_y, 1 / factor_x, zero, zero, 1 / factor_y),)


def _draw_rotate(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    angle = torch.deg2rad((_uniform(generator, count) - 0.5) * 2 * ANGLE)
    # Here and not on the images' device, whose sine may differ in the last bit.
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return (_matrices(cosine, -sine, sine, cosine, cosine, sine, -sine, cosine),)


def _matrices(*entries: Tensor) -> Tensor:
    """`(B, 2, 2, 2)`: a matrix on columns (x, y) and its inverse, by rows."""
    return torch.stack(entries, 1).view(-1, 2, 2, 2)


def _column(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).view(-1, 1, 1, 1)


def _color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    images = images + (_column(brightness, images) - 0.5) * BRIGHTNESS
    mean = images.mean(dim=1, keepdim=True)
    images = (images - mean) * (_column(saturation, images) * SATURATION) + mean
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (_column(contrast, images) + CONTRAST) + mean


def _crop(images: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    return linear_map(shifted, images, shift_y, shift_x)


def _cutout(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    side = images.shape[2]
    hole = int(HOLE * side + 0.5)
    grid = torch.arange(side, device=images.device)
    rows = (grid >= top[:, None]) & (grid < top[:, None] + hole)
    columns = (grid >= left[:, None]) & (grid < left[:, None] + hole)
    keep = ~(rows[:, None, :, None] & columns[:, None, None, :])
    return images * keep.to(images.dtype)


def _flip(images: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


def _affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Bilinear sampling with zero padding, corners aligned; `matrices` as `resampled` takes them."""
    # The sampler is faster on a CPU, and only there has the same bits twice: cuDNN's backward pass adds in any order,
    # without a warning.
    return sampled(images, matrices) if images.device.type == "cpu" else linear_map(resampled, images, matrices)


def sampled(images: Tensor, matrices: Tensor) -> Tensor:
    """Scaled or rotated images through PyTorch's own sampler, as published code does it on every device."""
    rows = F.pad(matrices[:, 0].to(images.dtype), (0, 1))
    grid = F.affine_grid(rows, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


_DRAW: dict[str, Callable[[torch.Generator, int, int], tuple[Tensor, ...]]] = {
    "color": _draw_color, "crop": _draw_crop, "cutout": _draw_cutout,
    "flip": _draw_flip, "scale": _draw_scale, "rotate": _draw_rotate,
}  # fmt: skip
_APPLY: dict[str, Callable[..., Tensor]] = {
    "color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _affine, "rotate": _affine,
}  # fmt: skip

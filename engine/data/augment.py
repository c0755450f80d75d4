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
    return tuple(low + _uniform(generator, count) * (SCALE - low) for _ in range(2))


def _draw_rotate(generator: torch.Generator, count: int, side: int) -> tuple[Tensor, ...]:
    return (torch.deg2rad((_uniform(generator, count) - 0.5) * 2 * ANGLE),)


def _column(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).view(-1, 1, 1, 1)


def _color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    images = images + (_column(brightness, images) - 0.5) * BRIGHTNESS
    mean = images.mean(dim=1, keepdim=True)
    images = (images - mean) * (_column(saturation, images) * SATURATION) + mean
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (_column(contrast, images) + CONTRAST) + mean


def _crop(images: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    """Zero-pad and shift: out[y, x] = in[y + shift_y, x + shift_x], zero outside."""
    side = images.shape[2]
    grid = torch.arange(side, device=images.device)
    rows, columns = grid + shift_y[:, None], grid + shift_x[:, None]
    inside = ((rows >= 0) & (rows < side))[:, None, :, None] & ((columns >= 0) & (columns < side))[:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Gathering along one flat axis keeps channels together; the mask makes the padding.
    picked = images.movedim(1, 3)[batch, rows.clamp(0, side - 1)[:, :, None], columns.clamp(0, side - 1)[:, None, :]]
    # In the usual memory order, for the reason in `engine.networks.flat.in_memory_order`.
    return (picked.movedim(3, 1) * inside.to(images.dtype)).clone(memory_format=torch.contiguous_format)


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


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear sampling with zero padding, corners aligned; `matrix` `(B, 2, 3)` maps output to input positions."""
    grid = F.affine_grid(matrix, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _scale(images: Tensor, factor_y: Tensor, factor_x: Tensor) -> Tensor:
    zero = torch.zeros_like(factor_x)
    rows = torch.stack([torch.stack([factor_x, zero, zero], 1), torch.stack([zero, factor_y, zero], 1)], 1)
    return _affine(images, rows.to(images.dtype))


def _rotate(images: Tensor, angle: Tensor) -> Tensor:
    sine, cosine, zero = torch.sin(angle), torch.cos(angle), torch.zeros_like(angle)
    rows = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    return _affine(images, rows.to(images.dtype))


_DRAW: dict[str, Callable[[torch.Generator, int, int], tuple[Tensor, ...]]] = {
    "color": _draw_color, "crop": _draw_crop, "cutout": _draw_cutout,
    "flip": _draw_flip, "scale": _draw_scale, "rotate": _draw_rotate,
}  # fmt: skip
_APPLY: dict[str, Callable[..., Tensor]] = {
    "color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate,
}  # fmt: skip

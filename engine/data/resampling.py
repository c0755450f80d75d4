"""Linear maps of images whose gradients are gathered: the same bits every time, on every device.

PyTorch differentiates indexing and sampling by scattering, where on a GPU many threads add to one pixel in any order.
Here the transpose knows which outputs a pixel went to and collects from those, in a fixed order and without atomics.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_WIDTH = 1.25
"""At least half the width, in pixels along an axis, of the place of the outputs that a pixel of a square image goes to:
1.2 for a scaling by 1/1.2, and cos + sin, 1.225, for a rotation by 15 degrees."""
SINE = 0.26
"""At least the sine of the largest angle: what each unit of the ratio of the sides adds to that."""

Map = Callable[..., Tensor]
"""`(images (B, C, H, W), transposed, *parameters (B, ...))` to images of the same shape, linear in the images."""


class LinearMap(torch.autograd.Function):
    """`apply(map, transposed, images, *parameters)`: derivatives of any order are the map itself or its transpose."""

    generate_vmap_rule = True

    @staticmethod
    def forward(linear: Map, transposed: bool, images: Tensor, *parameters: Tensor) -> Tensor:
        """The map, or its transpose."""
        return linear(images, transposed, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the parameters: derivatives need no images."""
        ctx.linear, ctx.transposed, _, *parameters = inputs
        ctx.save_for_backward(*parameters)
        ctx.save_for_forward(*parameters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The transpose of the gradient; parameters have none."""
        parameters = ctx.saved_tensors
        pulled = linear_map(ctx.linear, gradients[0], *parameters, transposed=not ctx.transposed)
        return None, None, pulled, *(None for _ in parameters)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        """The map of the tangent."""
        return linear_map(ctx.linear, tangents[2], *ctx.saved_tensors, transposed=ctx.transposed)


def linear_map(linear: Map, images: Tensor, *parameters: Tensor, transposed: bool = False) -> Tensor:
    """Apply a map of this module, differentiably in the images `(B, C, H, W)` and not in its parameters."""
    mapped: Tensor = LinearMap.apply(linear, transposed, images, *parameters)  # type: ignore[no-untyped-call]
    return mapped


def shifted(images: Tensor, transposed: bool, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    """Zero-pad and shift: out[y, x] = in[y + shift_y, x + shift_x], zero outside. Shifts `(B,)` in whole pixels."""
    height, width = images.shape[2:]
    sign = -1 if transposed else 1
    rows = torch.add(torch.arange(1, height + 1, device=images.device), shift_y[:, None], alpha=sign)
    columns = torch.add(torch.arange(1, width + 1, device=images.device), shift_x[:, None], alpha=sign)
    return _picked(images, rows[:, :, None], columns[:, None, :])


def resampled(images: Tensor, transposed: bool, matrices: Tensor) -> Tensor:
    """Bilinear sampling with zero padding and aligned corners, as `torch.nn.functional.grid_sample` has it.

    A pixel's weight in an output is the product, over the axes, of a hat function of its distance from the output's
    position in the input. So an output collects from the 2 x 2 pixels around that position; and in the transpose, a
    pixel collects from the outputs around the place to which the inverse takes it.

    Args:
        images: `(B, C, H, W)`.
        transposed: whether to apply the transpose.
        matrices: `(B, 2, 2, 2)`: from output to input positions (x, y), each from -1 to 1 along its axis, and the
            inverse of it. Rotations by up to 15 degrees, or scalings by up to 1.2 and down to 1/1.2.
    """
    kind = torch.float64 if images.dtype == torch.float64 else torch.float32
    sides = images.shape[3], images.shape[2]
    # Everything about positions has a first axis for (x, y): on a GPU the number of operations counts, not their size.
    x, y = (torch.linspace((1 - side) / 2, (side - 1) / 2, side, device=images.device, dtype=kind) for side in sides)
    matrices = matrices.to(kind)
    forth, back = (_in_pixels(matrices[:, i], sides) for i in range(2))
    if transposed:
        return _transpose(images, forth, back, x, y[:, None])
    at = _from_border(_moved(forth, x, y[:, None]), sides)
    first = at.floor()
    away = (at - first)[:, :, None]
    offsets = torch.arange(2, device=images.device, dtype=kind).view(2, 1, 1)
    picked = _picked(images, first[1, :, None, None] + offsets[:, None], first[0, :, None, None] + offsets)
    rows = torch.lerp(picked[:, :, :, 0], picked[:, :, :, 1], away[0, :, None].to(images.dtype))
    return torch.lerp(rows[:, :, 0], rows[:, :, 1], away[1].to(images.dtype))


def _transpose(images: Tensor, forth: Tensor, back: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The transpose of `resampled`, at the pixels (x, y)."""
    sides = images.shape[3], images.shape[2]
    first = _from_border(_moved(back, x, y), sides).round()
    offset_x, offset_y = (
        torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype).view(-1, 1, 1) for radius in _radii(sides)
    )
    there = _moved(forth, first[0] - (sides[0] + 1) / 2, first[1] - (sides[1] + 1) / 2)
    there[0].sub_(x)
    there[1].sub_(y)
    away = there[:, :, None, None] + _moved(forth[:, :, :, None, None], offset_x, offset_y[:, None])
    hats = (1 - away.abs()).clamp(min=0)
    weights = (hats[0] * hats[1]).to(images.dtype).flatten(1, 2).unsqueeze(1)
    picked = _picked(images, first[1, :, None, None] + offset_y[:, None], first[0, :, None, None] + offset_x)
    picked = picked.reshape(*images.shape[:2], -1, *images.shape[2:])
    # Added one by one: the order in which a sum adds may depend on how many images there are.
    total = picked[:, :, 0] * weights[:, :, 0]
    for tap in range(1, picked.shape[2]):
        total = torch.addcmul(total, picked[:, :, tap], weights[:, :, tap])
    return total


def _in_pixels(matrix: Tensor, sides: tuple[int, int]) -> Tensor:
    """Coefficients `(2, 2, B, 1, 1)`, to (x, y) from (x, y) in pixels around the middle, of `(B, 2, 2)`."""
    coefficients = matrix.permute(1, 2, 0)[..., None, None]
    if sides[0] == sides[1]:
        return coefficients
    ratio = _ratio(*sides)
    (xx, xy), (yx, yy) = coefficients
    return torch.stack([torch.stack([xx, xy * ratio]), torch.stack([yx * _ratio(*sides[::-1]), yy])])


def _ratio(side: int, other: int) -> float:
    return (side - 1) / max(1, other - 1)


def _radii(sides: tuple[int, int]) -> tuple[int, int]:
    """Pixels to each side, along x and y, of the outputs that a pixel goes to: 1 where images are square."""
    x, y = (math.ceil(HALF_WIDTH + SINE * max(0.0, _ratio(*pair) - 1) - 0.5) for pair in (sides, sides[::-1]))
    return x, y


def _moved(coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Positions (x, y) `(2, B, ...)` to which coefficients `(2, 2, B, ...)` take x and y."""
    return torch.addcmul(coefficients[:, 0] * x, coefficients[:, 1], y)


def _from_border(positions: Tensor, sides: tuple[int, int]) -> Tensor:
    """Positions `(2, ...)` around the middle, counted from one pixel before the first."""
    x, y = ((side + 1) / 2 for side in sides)
    return positions + x if x == y else torch.stack([positions[0] + x, positions[1] + y])


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels `(B, C, ...)` of `(B, C, H, W)`, zero outside.

    Args:
        images: where from.
        rows: `(B, ...)`, whole numbers, counted from the row before the first.
        columns: alike; the two broadcast.
    """
    height, width = images.shape[2:]
    # A border of zeros stands for all that is outside.
    padded = F.pad(images, (1, 1, 1, 1)).reshape(*images.shape[:2], -1)
    index = torch.add(columns.clamp(0, width + 1), rows.clamp(0, height + 1), alpha=width + 2)
    flat = index.long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return padded.gather(2, flat).view(*images.shape[:2], *index.shape[1:])

"""Pictures of synthetic images: decoded to pixels, laid out as a grid, one row a class."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from engine.data import InputSpace
from engine.storage import publishing

GAP = 2
"""Pixels between images."""
SMALLEST = 32
"""Images are enlarged by a whole factor to at least this side."""


def to_pixels(images: Tensor, space: InputSpace) -> npt.NDArray[np.uint8]:
    """Images `(N, C, H, W)` of the input space as bytes `(N, H, W, C)`, clamped to what a picture can show."""
    decoded = space.decode(images).clamp(0, 1).mul(255).round()
    return decoded.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)


def image_grid(pixels: npt.NDArray[np.uint8], ipc: int, columns: int | None = None) -> npt.NDArray[np.uint8]:
    """A grid `(H, W, C)` of images `(N, H, W, C)` ordered by class.

    With one image per class the classes run on in rows; else every class has a row of its own, and at most `columns`
    images of it are shown.
    """
    count, side, _, channels = pixels.shape
    if ipc == 1:
        width = columns or min(count, max(10, math.ceil(math.sqrt(count))))
        shown = list(range(count))
    else:
        width = min(ipc, columns or ipc)
        shown = [k * ipc + i for k in range(count // ipc) for i in range(width)]
    rows = math.ceil(len(shown) / width)
    grid = np.zeros((rows * (side + GAP) - GAP, width * (side + GAP) - GAP, channels), dtype=np.uint8)
    for place, number in enumerate(shown):
        top, left = place // width * (side + GAP), place % width * (side + GAP)
        grid[top : top + side, left : left + side] = pixels[number]
    return grid


def enlarged(grid: npt.NDArray[np.uint8], side: int) -> Image.Image:
    """A grid as a picture, small images enlarged by a whole factor."""
    picture = Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    factor = max(1, math.ceil(SMALLEST / side))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save_picture(path: Path, picture: Image.Image) -> None:
    """Publish a picture as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with publishing(path) as temp:
        picture.save(temp, format="PNG", optimize=True)

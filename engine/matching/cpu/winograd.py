"""3x3 convolutions by Winograd's F(4x4, 3x3): a quarter of the multiplications, for the CPU.

Tiles of 6x6 pixels, overlapping by two, make tiles of 4x4 outputs (Lavin & Gray, 2016; points 0, 1, -1, 2, -2):

    Y = A^T [ (G w G^T) * (B^T x B) ] A ,

a sum over input channels for each of the 36 places of a tile, hence 36 matrix products. The same places serve the
derivatives: with dM = A dY A^T, the gradient by the images is the adjoint of B^T x B applied to dM (G w G^T), and by
the weights G^T [ (B^T x B) * dM ] G. So every tensor is transformed once, however many products it goes into.

These functions say what the transforms are; winograd.cpp does them fast. All tensors are channels-last: images
`(B, H, W, C)`, tiles `(B, H / 4, W / 4, 36, C)`, weights `(36, O, C)`. Nothing is approximated; rounding errors are
about five times those of a direct convolution (tested).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TILE = 4
"""Side of a tile of outputs, pixels."""
SPAN = 6
"""Side of the tile of inputs it depends on."""

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)  # B^T
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)  # G
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))  # A^T

SHAPES: dict[str, Callable[..., tuple[int, ...]]] = {
    "input": lambda b, h, w, c: (b, h // TILE, w // TILE, SPAN * SPAN, c),
    "input_adjoint": lambda b, d, a, _, c: (b, TILE * d, TILE * a, c),
    "output": lambda b, d, a, _, c: (b, TILE * d, TILE * a, c),
    "output_adjoint": lambda b, h, w, c: (b, h // TILE, w // TILE, SPAN * SPAN, c),
    "weight": lambda o, c, *_: (SPAN * SPAN, o, c),
    "weight_adjoint": lambda _, o, c: (o, c, 3, 3),
}
"""Shape of every transform's result, from that of its argument."""

Matrix = Sequence[Sequence[float]]
Pieces = Sequence[Sequence[Tensor]]
"""A small matrix of tensors, one for each place of a tile."""


def tiles_of(images: Tensor) -> tuple[int, int, int]:
    """Counts of images `(B, H, W, C)`, and of their tiles down and across."""
    return images.shape[0], images.shape[1] // TILE, images.shape[2] // TILE


def input_tiles(images: Tensor) -> Tensor:
    """B^T x B of all tiles of images `(B, H, W, C)`, padded by one."""
    _, height, width, _ = images.shape
    padded = torch.nn.functional.pad(images, (0, 0, 1, 1, 1, 1))
    places = [[padded[:, i : i + height : TILE, j : j + width : TILE] for j in range(SPAN)] for i in range(SPAN)]
    return _stacked(_sandwich(_INPUT, places))


def input_tiles_adjoint(tiles: Tensor) -> Tensor:
    """The adjoint of `input_tiles`: `(B, H / 4, W / 4, 36, C)` to `(B, H, W, C)`."""
    batch, down, across, _, channels = tiles.shape
    places = _sandwich(_transposed(_INPUT), _places(tiles, SPAN))
    columns = [_overlapped(row, 2) for row in places]
    rows = [_overlapped([column[j] for column in columns], 1) for j in range(TILE)]
    pixels = torch.stack([torch.stack([rows[j][i] for j in range(TILE)], 3) for i in range(TILE)], 2)
    return pixels.reshape(batch, TILE * down, TILE * across, channels)


def output_images(tiles: Tensor) -> Tensor:
    """A^T M A: tiles `(B, H / 4, W / 4, 36, O)` to images `(B, H, W, O)`."""
    batch, down, across, _, channels = tiles.shape
    places = _sandwich(_OUTPUT, _places(tiles, SPAN))
    pixels = torch.stack([torch.stack(list(row), 3) for row in places], 2)
    return pixels.reshape(batch, TILE * down, TILE * across, channels)


def output_images_adjoint(images: Tensor) -> Tensor:
    """The adjoint of `output_images`: `(B, H, W, O)` to `(B, H / 4, W / 4, 36, O)`."""
    batch, height, width, channels = images.shape
    tiles = images.reshape(batch, height // TILE, TILE, width // TILE, TILE, channels)
    places = [[tiles[:, :, i, :, j] for j in range(TILE)] for i in range(TILE)]
    return _stacked(_sandwich(_transposed(_OUTPUT), places))


def weight_tiles(weight: Tensor) -> Tensor:
    """G w G^T: `(O, C, 3, 3)` to `(36, O, C)`."""
    places = [[weight[:, :, i, j] for j in range(3)] for i in range(3)]
    return torch.stack([place for row in _sandwich(_WEIGHT, places) for place in row])


def weight_tiles_adjoint(tiles: Tensor) -> Tensor:
    """The adjoint of `weight_tiles`: `(36, O, C)` to `(O, C, 3, 3)`."""
    places = [[tiles[SPAN * i + j] for j in range(SPAN)] for i in range(SPAN)]
    return torch.stack([torch.stack(row, 2) for row in _sandwich(_transposed(_WEIGHT), places)], 2)


def _sandwich(matrix: Matrix, pieces: Pieces) -> list[list[Tensor]]:
    """`matrix @ pieces @ matrix.T` of every tile."""
    rows = [[_weighted(row, [line[j] for line in pieces]) for j in range(len(pieces[0]))] for row in matrix]
    return [[_weighted(row, line) for row in matrix] for line in rows]


def _weighted(weights: Sequence[float], pieces: Sequence[Tensor]) -> Tensor:
    terms = [p if w == 1 else p * w for w, p in zip(weights, pieces, strict=True) if w != 0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _places(tiles: Tensor, side: int) -> list[list[Tensor]]:
    return [[tiles[:, :, :, side * i + j] for j in range(side)] for i in range(side)]


def _stacked(places: Pieces) -> Tensor:
    return torch.stack([place for row in places for place in row], 3)


def _transposed(matrix: Matrix) -> list[list[float]]:
    return [list(row) for row in zip(*matrix, strict=True)]


def _overlapped(spans: Sequence[Tensor], axis: int) -> list[Tensor]:
    """Along one axis, 6 rows of every tile to 4, where the first and last also belong to the neighbours."""
    count = spans[0].shape[axis]
    before = [0, 0] * (spans[0].dim() - 1 - axis) + [1, 0]
    after = [0, 0] * (spans[0].dim() - 1 - axis) + [0, 1]
    pad = torch.nn.functional.pad
    return [
        spans[1] + pad(spans[5].narrow(axis, 0, count - 1), before),
        spans[2],
        spans[3],
        spans[4] + pad(spans[0].narrow(axis, 1, count - 1), after),
    ]

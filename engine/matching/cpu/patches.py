"""Convolutions over the 1 or 3 channels of an image as matrix products of patches, for the CPU.

A direct convolution keeps most of a CPU's vector lanes idle where there are few channels: on two cores it ran at a
sixth of the rate of the later ones. As a product of patches it takes half the time or less, and the patches of a batch
serve every convolution over it. Tensors are channels-last: images `(B, H, W, C)`, patches `(B * H' * W', k * k * C)`.
"""

import torch
from torch import Tensor

import engine.matching.cpu.ops  # noqa: F401 - thin_product and its kin


def patches(images: Tensor, side: int, padding: int) -> Tensor:
    """All patches of `side` x `side` pixels of images `(B, H, W, C)`, one a row."""
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    rows, columns = padded.shape[1] - side + 1, padded.shape[2] - side + 1
    parts = [padded[:, i : i + rows, j : j + columns] for i in range(side) for j in range(side)]
    return torch.cat(parts, 3).reshape(-1, side * side * images.shape[3])


def weight_rows(weight: Tensor) -> Tensor:
    """`(O, C, k, k)` as `(O, k * k * C)`."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def patch_convolution(found: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`(B * H' * W', O)` from patches and weights `(O, C, k, k)`."""
    product: Tensor = torch.ops.tesla.thin_product(found, weight_rows(weight), bias)
    return product


def patch_weight_gradient(found: Tensor, outer: Tensor, side: int) -> Tensor:
    """Gradient by weights `(O, C, k, k)` from patches and that by outputs `(B, H', W', O)`."""
    outputs = outer.shape[3]
    product: Tensor = torch.ops.tesla.thin_transposed_product(found, outer.reshape(-1, outputs))
    return product.reshape(side, side, -1, outputs).permute(3, 2, 0, 1)


def patch_convolution_adjoint(outer: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Gradient by images `(B, H, W, C)` from that by outputs `(B, H', W', O)`: patches, added up where they overlap."""
    batch, rows, columns, outputs = outer.shape
    channels, side = weight.shape[1:3]
    height, width = rows + side - 1 - 2 * padding, columns + side - 1 - 2 * padding
    product = torch.ops.tesla.thin_product(outer.reshape(-1, outputs), weight_rows(weight).t().contiguous(), None)
    edge = side - 1 - padding
    padded = torch.nn.functional.pad(product.reshape(batch, rows, columns, -1), (0, 0, edge, edge, edge, edge))
    total: Tensor | None = None
    for i in range(side):
        for j in range(side):
            down, across, first = side - 1 - i, side - 1 - j, (i * side + j) * channels
            part = padded[:, down : down + height, across : across + width, first : first + channels]
            total = part if total is None else total + part
    assert total is not None
    return total

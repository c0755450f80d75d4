"""Maps that gather in both directions, against dense matrices and against PyTorch's own sampling."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import draw_augment
from engine.data.augment import ANGLE, SCALE
from engine.data.resampling import linear_map, resampled, shifted
from engine.runtime.rng import counted_generator
from tests.operators import Operators

SIZES = [(1, 1), (2, 2), (5, 5), (8, 8), (28, 28), (33, 33), (9, 13), (30, 12), (1, 7)]
ANGLES = torch.linspace(-ANGLE, ANGLE, 41)
FACTORS = torch.linspace(1 / SCALE, SCALE, 41)
OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")
SCATTERS = ("scatter", "index_put", "index_add", "grid_sampler", "embedding")


def rotations(degrees: Tensor) -> Tensor:
    cosine, sine = torch.cos(torch.deg2rad(degrees.double())), torch.sin(torch.deg2rad(degrees.double()))
    rows = [cosine, -sine, sine, cosine, cosine, sine, -sine, cosine]
    return torch.stack(rows, 1).view(-1, 2, 2, 2)


def scalings(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.stack([x, zero, zero, y, 1 / x, zero, zero, 1 / y], 1).double().view(-1, 2, 2, 2)


def all_matrices() -> Tensor:
    return torch.cat([rotations(ANGLES), scalings(FACTORS, FACTORS.flip(0)), scalings(FACTORS, FACTORS)])


def dense(matrix: Tensor, height: int, width: int) -> Tensor:
    """`(H * W, H * W)`: every weight of every pixel in every output, written out."""
    rows = torch.zeros(height * width, height * width, dtype=torch.float64)
    half_y, half_x = (height - 1) / 2, (width - 1) / 2
    (xx, xy), (yx, yy) = matrix.tolist()
    for i in range(height):
        for j in range(width):
            u, v = (j - half_x) / (half_x or 1), (i - half_y) / (half_y or 1)
            x, y = half_x + half_x * (xx * u + xy * v), half_y + half_y * (yx * u + yy * v)
            for row in range(math.floor(y), math.floor(y) + 2):
                for column in range(math.floor(x), math.floor(x) + 2):
                    if 0 <= row < height and 0 <= column < width:
                        weight = (1 - abs(y - row)) * (1 - abs(x - column))
                        rows[i * width + j, row * width + column] = weight
    return rows


def batch(*shape: int) -> Tensor:
    return torch.randn(shape, generator=counted_generator(9, "batch"), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (5, 5), (8, 8), (13, 13), (6, 9), (10, 4), (1, 7)])
def test_the_map_and_its_transpose_are_those_of_the_dense_matrix(height: int, width: int) -> None:
    matrices = torch.cat([rotations(torch.tensor([-15.0, -7.3, 0.0, 11.0, 15.0])), all_matrices()[41::13]])
    images = batch(len(matrices), 2, height, width)
    whole = torch.stack([dense(matrix, height, width) for matrix in matrices[:, 0]])
    for transposed, rows in ((False, whole), (True, whole.mT)):
        expected = torch.einsum("bij,bcj->bci", rows, images.flatten(2)).view(images.shape)
        assert (resampled(images, transposed, matrices) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("height", "width"), [size for size in SIZES if 1 not in size] + [(64, 64), (128, 128)])
def test_the_map_and_its_gradient_are_those_of_grid_sample(height: int, width: int) -> None:
    matrices = all_matrices()[:: 1 if height < 64 else 10]
    images, pulled = batch(len(matrices), 1, height, width).requires_grad_(), batch(len(matrices), 1, height, width)
    grid = F.affine_grid(F.pad(matrices[:, 0], (0, 1)), list(images.shape), align_corners=True)
    theirs = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    ours = linear_map(resampled, images, matrices)
    assert (ours - theirs).abs().max() < 1e-12
    gradients = [torch.autograd.grad(output, images, pulled)[0] for output in (ours, theirs)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12


@pytest.mark.parametrize("op", ["scale", "rotate"])
@pytest.mark.parametrize("side", [28, 32, 64])
def test_float32_is_grid_samples_but_for_rounding(op: str, side: int) -> None:
    augment = draw_augment(counted_generator(0, op), [op], (40, 3, side, side))
    images = batch(40, 3, side, side).float()
    assert torch.allclose(linear_map(resampled, images, *augment.parameters), augment(images), atol=2e-6 * side)


MAPS: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
    (shifted, (torch.tensor([0, 2, -1]), torch.tensor([1, -3, 0]))),
    (resampled, (rotations(torch.tensor([-15.0, 4.0, 15.0])),)),
    (resampled, (scalings(torch.tensor([SCALE, 1 / SCALE, 1.0]), torch.tensor([0.9, SCALE, 1 / SCALE])),)),
]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # of forward derivatives
@pytest.mark.parametrize(("linear", "parameters"), MAPS)
def test_derivatives_of_every_kind(linear: Callable[..., Tensor], parameters: tuple[Tensor, ...]) -> None:
    images, tangent = batch(3, 2, 5, 5).requires_grad_(), batch(2, 3, 2, 5, 5)[1]

    def of(images: Tensor) -> Tensor:
        return linear_map(linear, images, *parameters)

    assert torch.autograd.gradcheck(of, images, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(of, images)
    value, moved = torch.func.jvp(of, (images.detach(),), (tangent,))
    assert torch.equal(value, of(images)) and torch.equal(moved, of(tangent))
    pulled = torch.func.vjp(of, images.detach())[1](tangent)[0]
    assert torch.equal(pulled, linear(tangent, True, *parameters))
    # A transpose: <A x, y> = <x, A' y>.
    assert torch.allclose((moved * images).sum(), (tangent * linear(images, True, *parameters)).sum())
    stack = batch(4, 3, 2, 5, 5)
    assert torch.allclose(torch.func.vmap(of)(stack), torch.stack([of(one) for one in stack]), atol=1e-14)
    one_by_one = torch.func.vmap(lambda image, *own: linear_map(linear, image[None], *(p[None] for p in own))[0])
    assert torch.allclose(one_by_one(images, *parameters), of(images), atol=1e-14)


@pytest.mark.parametrize(("linear", "parameters"), MAPS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_part_and_another_memory_order_have_the_same_bits(
    linear: Callable[..., Tensor], parameters: tuple[Tensor, ...], channels: int
) -> None:
    images = batch(3, channels, 9, 9).float()
    for transposed in (False, True):
        whole = linear(images, transposed, *parameters)
        assert whole.dtype == torch.float32 and whole.is_contiguous()
        assert torch.equal(linear(images.contiguous(memory_format=torch.channels_last), transposed, *parameters), whole)
        for i in range(3):
            part = linear(images[i : i + 1], transposed, *(values[i : i + 1] for values in parameters))
            assert torch.equal(part, whole[i : i + 1])


def operators(augment: Callable[[Tensor], Tensor], images: Tensor) -> Operators:
    with Operators() as seen:
        torch.autograd.grad(augment(images).sum(), images)
    return seen


@pytest.mark.parametrize("op", OPS)
def test_no_device_but_the_cpu_scatters_or_needs_float64(op: str) -> None:
    shape = (4, 3, 8, 8)
    augment = draw_augment(counted_generator(0, op), [op], shape, "meta")
    seen = operators(augment, torch.empty(shape, device="meta", requires_grad=True))
    assert seen.names and not [name for name in seen.names if any(scatter in name for scatter in SCATTERS)]
    assert not seen.double


def test_the_list_of_scattering_operators_finds_them() -> None:
    images = batch(2, 1, 4, 4).requires_grad_()
    index = torch.tensor([0, 0])
    for scatter in (lambda x: x[index], lambda x: x.gather(0, index.view(2, 1, 1, 1).expand(2, 1, 4, 4))):
        seen = operators(scatter, images)
        assert [name for name in seen.names if any(word in name for word in SCATTERS)]

"""DSA against per-image oracles."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import Augment, draw_augment
from engine.errors import UsageError
from engine.runtime.rng import counted_generator

OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def drawn(op: str, shape: tuple[int, int, int, int], seed: int = 0) -> Augment:
    return draw_augment(counted_generator(seed, op), [op], shape)


def batch(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=counted_generator(9, "batch"), dtype=torch.float64).to(dtype)


def oracle(augment: Augment, image: Tensor, i: int) -> Tensor:
    """One image, written out."""
    c, side, _ = image.shape
    if augment.op in ("scale", "rotate"):
        theta = F.pad(augment.parameters[0][i : i + 1, 0].to(image.dtype), (0, 1))
        grid = F.affine_grid(theta, [1, c, side, side], align_corners=True)
        return F.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    p = [float(parameter[i]) for parameter in augment.parameters]
    if augment.op == "flip":
        return image.flip(2) if p[0] else image
    if augment.op == "color":
        out = image + (p[0] - 0.5)
        mean = out.mean(dim=0)
        out = (out - mean) * (2 * p[1]) + mean
        return (out - out.mean()) * (p[2] + 0.5) + out.mean()
    if augment.op == "crop":
        most = int(0.125 * side + 0.5)
        padded = torch.zeros(c, side + 2 * most, side + 2 * most, dtype=image.dtype)
        padded[:, most : most + side, most : most + side] = image
        top, left = most + int(p[0]), most + int(p[1])
        return padded[:, top : top + side, left : left + side]
    assert augment.op == "cutout"
    out, hole = image.clone(), int(0.5 * side + 0.5)
    for y in range(side):
        for x in range(side):
            if p[0] <= y < p[0] + hole and p[1] <= x < p[1] + hole:
                out[:, y, x] = 0
    return out


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (5, 1, 9, 9), (1, 3, 12, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_each_operation_is_what_it_says(op: str, shape: tuple[int, int, int, int], seed: int) -> None:
    images, augment = batch(shape), drawn(op, shape, seed)
    expected = torch.stack([oracle(augment, image, i) for i, image in enumerate(images)])
    assert torch.allclose(augment(images), expected, atol=1e-6)


@pytest.mark.parametrize("op", OPS)
def test_replay_gives_the_same_bits_and_images_differ(op: str) -> None:
    shape = (64, 3, 16, 16)
    images = batch((1, 3, 16, 16), torch.float32).expand(shape)
    augment = drawn(op, shape)
    first = augment(images)
    assert torch.equal(first, augment(images))
    assert len({tuple(image.flatten().tolist()) for image in first}) > (1 if op == "flip" else 8)


@pytest.mark.parametrize("op", OPS)
def test_gradients_flow_to_the_images(op: str) -> None:
    shape = (2, 3, 6, 6)
    images = batch(shape).requires_grad_()
    assert torch.autograd.gradcheck(drawn(op, shape), (images,))


@pytest.mark.parametrize("op", OPS)
def test_the_type_of_the_images_is_kept_and_the_draw_is_the_same(op: str) -> None:
    shape = (4, 3, 8, 8)
    single, double = drawn(op, shape)(batch(shape, torch.float32)), drawn(op, shape)(batch(shape))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, atol=1e-5)


def test_ranges() -> None:
    shape = (4000, 1, 32, 32)
    forth, back = drawn("scale", shape).parameters[0].unbind(1)
    scale = torch.cat([forth[:, 0, 0], forth[:, 1, 1]])
    assert 1 / 1.2 <= scale.min() < 0.84
    assert 1.19 < scale.max() <= 1.2
    assert torch.allclose(back[:, [0, 1], [0, 1]] * forth[:, [0, 1], [0, 1]], torch.ones(1), atol=1e-6)
    forth, back = drawn("rotate", shape).parameters[0].unbind(1)
    angle = torch.atan2(forth[:, 1, 0], forth[:, 0, 0])
    assert torch.equal(back, forth.mT)
    assert math.radians(14.9) < angle.abs().max() <= math.radians(15)
    shift = torch.stack(drawn("crop", shape).parameters)
    assert (shift.min(), shift.max()) == (-4, 4)
    assert abs(drawn("flip", shape).parameters[0].float().mean() - 0.5) < 0.05


def test_operations_are_drawn_evenly() -> None:
    counts = Counter(draw_augment(counted_generator(0, "op", i), OPS, (1, 1, 8, 8)).op for i in range(1200))
    assert set(counts) == set(OPS)
    assert min(counts.values()) > 140


def test_no_operations_is_the_identity_and_unknown_ones_are_named() -> None:
    images = batch((2, 1, 8, 8))
    assert draw_augment(counted_generator(0, "x"), [], (2, 1, 8, 8))(images) is images
    with pytest.raises(UsageError, match="Did you mean rotate"):
        draw_augment(counted_generator(0, "x"), ["rotat"], (2, 1, 8, 8))

"""Convolutions in other ways, against PyTorch's own in float64."""

import uuid
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.matching.cpu import ops as operators
from engine.matching.cpu import winograd
from engine.matching.cpu.fx_pass import LeanConvolutions
from engine.matching.cpu.patches import patch_convolution, patch_convolution_adjoint, patch_weight_gradient, patches

TRANSFORMS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "input": (winograd.input_tiles, (2, 8, 12, 16)),
    "input_adjoint": (winograd.input_tiles_adjoint, (2, 2, 3, 36, 16)),
    "output": (winograd.output_images, (2, 2, 3, 36, 16)),
    "output_adjoint": (winograd.output_images_adjoint, (2, 8, 12, 16)),
    "weight": (winograd.weight_tiles, (16, 33, 3, 3)),
    "weight_adjoint": (winograd.weight_tiles_adjoint, (36, 16, 33)),
}


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_compiled_transforms_equal_their_definitions(name: str, dtype: torch.dtype) -> None:
    definition, shape = TRANSFORMS[name]
    tensor = random(*shape, dtype=dtype)
    found = torch.ops.tesla.winograd(tensor, name)
    wanted = definition(tensor.double())
    assert found.shape == wanted.shape == torch.ops.tesla.winograd(tensor.to("meta"), name).shape
    assert relative(found, wanted) < (1e-6 if dtype is torch.float32 else 1e-15)


@pytest.mark.parametrize("name", ["input", "output", "weight"])
def test_adjoints_are_adjoint(name: str) -> None:
    (a, a_shape), (b, b_shape) = TRANSFORMS[name], TRANSFORMS[f"{name}_adjoint"]
    x, y = random(*a_shape), random(*b_shape) + 0.1
    assert torch.allclose((a(x) * y).sum(), (x * b(y)).sum(), rtol=1e-12)


@pytest.mark.slow
def test_threads_do_not_change_bits() -> None:
    tiles, rows = random(5, 4, 4, 36, 64, dtype=torch.float32), random(3000, 32, dtype=torch.float32)
    weights = random(36, 32, 64, dtype=torch.float32)
    assert min(tiles.numel(), rows.numel()) > operators.SMALL
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(
                (
                    torch.ops.tesla.winograd(tiles, "input_adjoint"),
                    torch.ops.tesla.many_products(tiles.flatten(0, 2), weights),
                    torch.ops.tesla.thin_product(rows, rows[:9], None),
                    torch.ops.tesla.thin_transposed_product(rows[:, :9], rows),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("count", "inner", "outputs"), [(1, 1, 1), (7, 9, 32), (241, 27, 48), (1100, 9, 5), (60, 32, 9)]
)
def test_thin_products(count: int, inner: int, outputs: int, dtype: torch.dtype) -> None:
    """Sizes that do not fill a tile, a vector or a part of the rows."""
    rows, weights, bias = (random(*s, dtype=dtype) for s in ((count, inner), (outputs, inner), (outputs,)))
    others = random(count, outputs, dtype=dtype)
    limit = 1e-6 if dtype is torch.float32 else 1e-14
    product = rows.double() @ weights.double().t()
    assert relative(torch.ops.tesla.thin_product(rows, weights, None), product) < limit
    for given in (bias, bias.repeat_interleave(2)[::2]):
        assert relative(torch.ops.tesla.thin_product(rows, weights, given), product + bias) < limit
    across = torch.ops.tesla.thin_transposed_product(rows, others)
    assert relative(across, rows.double().t() @ others.double()) < limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(("count", "many", "inner", "outputs"), [(1, 3, 5, 7), (40, 36, 32, 64), (103, 4, 64, 48)])
def test_many_products(
    count: int, many: int, inner: int, outputs: int, small: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our kernel and the libraries' for large ones, with weights of either memory order."""
    monkeypatch.setattr(operators, "SMALL_PRODUCT", 2**40 if small else 0)
    rows, weights = random(count, many, inner, dtype=dtype), random(many, outputs, inner, dtype=dtype)
    wanted = torch.einsum("nmk,mok->nmo", rows.double(), weights.double())
    for order in (weights, weights.transpose(1, 2).contiguous().transpose(1, 2)):
        found = torch.ops.tesla.many_products(rows, order)
        assert found.shape == wanted.shape and relative(found, wanted) < (1e-6 if dtype is torch.float32 else 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_winograd_is_a_convolution_with_its_derivatives(dtype: torch.dtype) -> None:
    images, weight, outer = random(2, 8, 12, 32, dtype=dtype), random(48, 32, 3, 3, dtype=dtype), random(2, 8, 12, 48)
    inputs, weights = winograd.input_tiles(images), winograd.weight_tiles(weight)
    outers = winograd.output_images_adjoint(outer.to(dtype))
    shape = inputs.shape[:4]
    product = torch.ops.tesla.many_products(inputs.flatten(0, 2), weights).reshape(*shape, 48)
    back = torch.ops.tesla.many_products(outers.flatten(0, 2), weights.transpose(1, 2)).reshape(*shape, 32)
    across = torch.ops.tesla.many_transposed_products(outers.flatten(0, 2), inputs.flatten(0, 2))
    x, w = (t.double().requires_grad_() for t in (images.permute(0, 3, 1, 2), weight))
    wanted = torch.nn.functional.conv2d(x, w, padding=1)
    by_images, by_weight = torch.autograd.grad(wanted, (x, w), grad_outputs=outer.permute(0, 3, 1, 2))
    limit = 5e-6 if dtype is torch.float32 else 1e-13
    assert relative(winograd.output_images(product).permute(0, 3, 1, 2), wanted.detach()) < limit
    assert relative(winograd.input_tiles_adjoint(back).permute(0, 3, 1, 2), by_images) < limit
    assert relative(winograd.weight_tiles_adjoint(across), by_weight) < limit


@pytest.mark.parametrize(("side", "padding"), [(3, 1), (3, 3), (5, 2), (3, 0)])
def test_patches_are_a_convolution_with_its_derivative(side: int, padding: int) -> None:
    images, weight, bias = random(2, 9, 9, 3), random(16, 3, side, side), random(16)
    x, w = images.permute(0, 3, 1, 2).clone().requires_grad_(), weight.clone().requires_grad_()
    wanted = torch.nn.functional.conv2d(x, w, bias, padding=padding)
    outer = random(*wanted.shape)
    by_images, by_weight = torch.autograd.grad(wanted, (x, w), grad_outputs=outer)
    found = patch_convolution(patches(images, side, padding), weight, bias)
    assert relative(found.reshape(2, *wanted.shape[2:], 16).permute(0, 3, 1, 2), wanted.detach()) < 1e-13
    back = patch_convolution_adjoint(outer.permute(0, 2, 3, 1), weight, padding)
    assert relative(back.permute(0, 3, 1, 2), by_images) < 1e-13
    across = patch_weight_gradient(patches(images, side, padding), outer.permute(0, 2, 3, 1), side)
    assert relative(across, by_weight) < 1e-13


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_the_pass_takes_the_place_of_convolutions_and_keeps_their_numbers() -> None:
    """A small chain of convolutions, forward and backward, through the compiler with the pass."""

    def function(x: Tensor, thin: Tensor, a: Tensor, b: Tensor) -> Tensor:
        inner = torch.nn.functional.conv2d(x, thin, padding=1).tanh()
        both = torch.nn.functional.conv2d(inner, a, padding=1) + torch.nn.functional.conv2d(inner.sin(), b, padding=1)
        return both.cos().sum()

    class Watched(LeanConvolutions):
        left: tuple[int, int] | None = None

        def __call__(self, graph: torch.fx.Graph) -> None:
            def count() -> int:
                return sum("convolution" in str(node.target) for node in graph.nodes)

            before = count()
            super().__call__(graph)
            Watched.left = (before, count())

        def uuid(self) -> str:
            return str(uuid.uuid4())  # a graph from the compiler's cache would not be looked at

    arguments = (random(2, 3, 8, 8), random(32, 3, 3, 3), random(32, 32, 3, 3), random(32, 32, 3, 3) * 0.5)
    gradient = torch.func.grad(function, argnums=(0, 1, 2, 3))
    options = {"post_grad_custom_pre_pass": Watched()}
    found = torch.compile(gradient, fullgraph=True, dynamic=False, options=options)(*arguments)
    for one, other in zip(found, gradient(*arguments), strict=True):
        assert relative(one, other) < 1e-12
    assert Watched.left == (6, 0)  # three forward and three backward

"""The operators that fx_pass.py puts in place of convolutions; the compiler leaves them as they are.

* Matrix products of unusual shapes. A CPU's BLAS is made for large square matrices. oneDNN, written for networks, is up
  to twice as fast on many at once; small and thin ones have kernels of their own in products.cpp.
* The transforms of winograd.py, from winograd.cpp.

Both are built once by PyTorch's own compiler driver into its own cache.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from engine.matching.cpu import winograd

SOURCES = tuple(Path(__file__).with_name(name) for name in ("winograd.cpp", "products.cpp"))

SMALL = 2**14
"""Numbers in a tensor that one thread transforms alone: waking another costs a few microseconds."""

SMALL_PRODUCT = 2**20
"""Multiplications in each of many products that products.cpp does faster than oneDNN: 0.4 to 0.9 of the time with 32
or 64 channels and ten images, 1.0 to 1.3 with 128 channels and a hundred (2 CPU cores, AVX2)."""

_library = torch.library.Library("tesla", "DEF")
_library.define("thin_product(Tensor rows, Tensor weights, Tensor? bias) -> Tensor")
_library.define("thin_transposed_product(Tensor rows, Tensor others) -> Tensor")
_library.define("many_products(Tensor rows, Tensor weights) -> Tensor")
_library.define("many_transposed_products(Tensor rows, Tensor others) -> Tensor")
_library.define("winograd(Tensor tensor, str transform) -> Tensor")


@torch.library.impl(_library, "thin_product", "CPU")
def _thin_product(rows: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """`rows @ weights.T + bias`: `(n, k)` and `(o, k)` to `(n, o)`, k or o small."""
    rows, weights = rows.contiguous(), weights.contiguous()
    found = _thin_shape(rows, weights, bias)
    bias = None if bias is None else bias.contiguous()
    _run("thin", (rows, weights, bias, found), (*rows.shape, weights.shape[0]), _threads(found))
    return found


@torch.library.impl(_library, "thin_product", "Meta")
def _thin_shape(rows: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[0])


@torch.library.impl(_library, "thin_transposed_product", "CPU")
def _thin_transposed_product(rows: Tensor, others: Tensor) -> Tensor:
    """`rows.T @ others`: `(n, k)` and `(n, o)` to `(k, o)`, n large and k small."""
    rows, others = rows.contiguous(), others.contiguous()
    found = _thin_transposed_shape(rows, others)
    _run("thin_transposed", (rows, others, found), (*rows.shape, others.shape[1]), _threads(others))
    return found


@torch.library.impl(_library, "thin_transposed_product", "Meta")
def _thin_transposed_shape(rows: Tensor, others: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[1], others.shape[1])


@torch.library.impl(_library, "many_products", "CPU")
def _many_products(rows: Tensor, weights: Tensor) -> Tensor:
    """For each m: `rows[:, m] @ weights[m].T`: `(n, m, k)` and `(m, o, k)` to `(n, m, o)`."""
    count, many, inner = rows.shape
    outputs = weights.shape[1]
    if count * inner * outputs <= SMALL_PRODUCT:
        rows = rows.contiguous()
        found = _many_shape(rows, weights)
        _run("many", (rows, weights, found), (*rows.shape, outputs, *weights.stride()), _threads(found))
        return found
    if rows.dtype is not torch.float32:
        return torch.bmm(rows.transpose(0, 1), weights.transpose(1, 2)).transpose(0, 1).contiguous()
    # A convolution with one group for each m, over "images" of one pixel row: oneDNN's best kernel for this. Asked for
    # by name, because PyTorch takes another one, group by group, where there is a single thread.
    images = rows.contiguous().view(1, 1, count, many * inner).permute(0, 3, 1, 2)
    kernels = weights.reshape(many * outputs, inner, 1, 1)
    grouped: Tensor = torch.ops.aten.mkldnn_convolution(images, kernels, None, [0, 0], [1, 1], [1, 1], many)
    return grouped.permute(0, 2, 3, 1).reshape(count, many, outputs)


@torch.library.impl(_library, "many_products", "Meta")
def _many_shape(rows: Tensor, weights: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], rows.shape[1], weights.shape[1])


@torch.library.impl(_library, "many_transposed_products", "CPU")
def _many_transposed_products(rows: Tensor, others: Tensor) -> Tensor:
    """For each m: `rows[:, m].T @ others[:, m]`: `(n, m, k)` and `(n, m, o)` to `(m, k, o)`."""
    return torch.bmm(rows.permute(1, 2, 0), others.transpose(0, 1))


@torch.library.impl(_library, "many_transposed_products", "Meta")
def _many_transposed_shape(rows: Tensor, others: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[1], rows.shape[2], others.shape[2])


WEIGHTS = ("weight", "weight_adjoint")
"""The transforms of weights; the others are of images."""


@torch.library.impl(_library, "winograd", "CPU")
def _winograd(tensor: Tensor, transform: str) -> Tensor:
    """One of the functions of winograd.py, by its short name."""
    tensor = tensor.contiguous()
    found = _winograd_shape(tensor, transform)
    if transform in WEIGHTS:
        outer = tensor.shape[:2] if transform == "weight" else tensor.shape[1:]
        sizes = [outer[0] * outer[1]]
    else:
        sizes = [*winograd.tiles_of(tensor if tensor.dim() == 4 else found), tensor.shape[-1]]
    _run(transform, (tensor, found), sizes, _threads(tensor))
    return found


@torch.library.impl(_library, "winograd", "Meta")
def _winograd_shape(tensor: Tensor, transform: str) -> Tensor:
    return tensor.new_empty(winograd.SHAPES[transform](*tensor.shape))


def _threads(tensor: Tensor) -> int:
    return torch.get_num_threads() if tensor.numel() > SMALL else 1


def _run(name: str, tensors: Sequence[Tensor | None], sizes: Sequence[int], threads: int) -> None:
    """Call a compiled function. The last tensor is the result, and tells the type; all are held until it returns."""
    result = tensors[-1]
    assert result is not None
    kernel = _kernel(name, result.dtype, len(tensors), len(sizes))
    kernel(*[0 if tensor is None else tensor.data_ptr() for tensor in tensors], *sizes, threads)


@cache
def _kernel(name: str, dtype: torch.dtype, tensors: int, sizes: int) -> Callable[..., None]:
    """The function of that name for numbers of a type: it takes addresses, then sizes, then how many threads."""
    name = f"{name}_{'float' if dtype is torch.float32 else 'double'}"
    function = next(getattr(library, name) for library in kernels() if hasattr(library, name))
    function.argtypes = [ctypes.c_void_p] * tensors + [ctypes.c_long] * (sizes + 1)
    function.restype = None
    found: Callable[..., None] = function
    return found


@cache
def kernels() -> tuple[ctypes.CDLL, ...]:
    """The compiled sources.

    Raises:
        Exception: there is no working C++ compiler; the driver's errors have no common base.
    """
    from torch._inductor.codecache import CppCodeCache

    # The driver forbids fused multiplications and additions in its own kernels; here they are half of the arithmetic.
    return tuple(CppCodeCache.load(source.read_text(), extra_flags=("-ffp-contract=fast",)) for source in SOURCES)

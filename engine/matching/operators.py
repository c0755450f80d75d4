"""What passes.py puts in a convolution's place: operators that the compiler leaves as they are.

* Matrix products of unusual shapes. A CPU's BLAS is made for large square matrices; oneDNN, written for networks, is up
  to twice as fast on thin and on many small ones.
* The transforms of winograd.py, from winograd.cpp, built once by PyTorch's own compiler driver into its own cache.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from engine.matching import winograd

_library = torch.library.Library("tesla", "DEF")
_library.define("thin_product(Tensor rows, Tensor weights, Tensor? bias) -> Tensor")
_library.define("many_products(Tensor rows, Tensor weights) -> Tensor")
_library.define("many_transposed_products(Tensor rows, Tensor others) -> Tensor")
_library.define("winograd(Tensor tensor, str transform) -> Tensor")


@torch.library.impl(_library, "thin_product", "CPU")
def _thin_product(rows: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """`rows @ weights.T + bias`: `(n, k)` and `(o, k)` to `(n, o)`, k or o small."""
    if rows.dtype is not torch.float32:
        return torch.nn.functional.linear(rows, weights, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weights.contiguous(), bias, "none", [], "")
    return found


@torch.library.impl(_library, "thin_product", "Meta")
def _thin_shape(rows: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[0])


@torch.library.impl(_library, "many_products", "CPU")
def _many_products(rows: Tensor, weights: Tensor) -> Tensor:
    """For each m: `rows[:, m] @ weights[m].T`: `(n, m, k)` and `(m, o, k)` to `(n, m, o)`."""
    count, many, inner = rows.shape
    outputs = weights.shape[1]
    if rows.dtype is not torch.float32:
        return torch.bmm(rows.transpose(0, 1), weights.transpose(1, 2)).transpose(0, 1).contiguous()
    # A convolution with one group for each m, over "images" of one pixel row: oneDNN's best kernel for this. Asked for
    # by name, because PyTorch takes another one, group by group, where there is a single thread.
    images = rows.contiguous().view(1, 1, count, many * inner).permute(0, 3, 1, 2)
    kernels = weights.reshape(many * outputs, inner, 1, 1)
    found: Tensor = torch.ops.aten.mkldnn_convolution(images, kernels, None, [0, 0], [1, 1], [1, 1], many)
    return found.permute(0, 2, 3, 1).reshape(count, many, outputs)


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

SMALL = 2**14
"""Numbers in a tensor that one thread transforms alone."""


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
    # A thread costs a few microseconds to wake; a small tensor is done by then.
    threads = torch.get_num_threads() if tensor.numel() > SMALL else 1
    kernel = _kernel(transform, tensor.dtype)
    kernel(tensor.data_ptr(), found.data_ptr(), *sizes, threads)
    return found


@cache
def _kernel(transform: str, dtype: torch.dtype) -> Callable[..., None]:
    function = getattr(kernels(), f"{transform}_{'float' if dtype is torch.float32 else 'double'}")
    sizes = 1 if transform in WEIGHTS else 4
    function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_long] * (sizes + 1)
    function.restype = None
    found: Callable[..., None] = function
    return found


@torch.library.impl(_library, "winograd", "Meta")
def _winograd_shape(tensor: Tensor, transform: str) -> Tensor:
    return tensor.new_empty(winograd.SHAPES[transform](*tensor.shape))


@cache
def kernels() -> ctypes.CDLL:
    """The compiled transforms.

    Raises:
        Exception: there is no working C++ compiler; the driver's errors have no common base.
    """
    from torch._inductor.codecache import CppCodeCache

    library: ctypes.CDLL = CppCodeCache.load(Path(__file__).with_name("winograd.cpp").read_text())
    return library

"""Attention in a form that can be differentiated twice, whatever module computes it.

Fused kernels have no second derivative, and the fused encoder layer has none at all. PyTorch's plain products and
softmax compute the same.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.backends import cuda, mha
from torch.nn.attention import SDPBackend, sdpa_kernel


def attends(model: nn.Module) -> bool:
    """Whether a module has PyTorch's attention layers. Calls of `F.scaled_dot_product_attention` are not seen."""
    return any(isinstance(module, nn.MultiheadAttention) for module in model.modules())


def differentiable_attention(known: bool) -> AbstractContextManager[Any]:
    """Use the plain form inside the block, where something is differentiated.

    Args:
        known: the module `attends`. The compiler traces the switch only then; another module's fused attention fails
            to compile, and its steps stay eager.
    """
    if torch.compiler.is_compiling():
        return sdpa_kernel(SDPBackend.MATH) if known else nullcontext()
    return _plain() if torch.is_grad_enabled() else nullcontext()


@contextmanager
def _plain() -> Iterator[None]:
    # Not `sdpa_kernel`, which takes 12 microseconds: this is around every step of every network.
    switches: tuple[tuple[Callable[[], bool], Callable[[bool], Any], bool], ...] = (
        (cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
        (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
        (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
        (cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
        (mha.get_fastpath_enabled, mha.set_fastpath_enabled, False),
    )
    before = [enabled() for enabled, _, _ in switches]
    for _, enable, wanted in switches:
        enable(wanted)
    try:
        yield
    finally:
        for (_, enable, _), found in zip(switches, before, strict=True):
            enable(found)

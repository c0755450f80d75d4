"""How far compiled results may be from eager ones, and still be the same up to rounding.

Rounding alone moves a gradient by far more than a rounding error: a sign under a ReLU that rounding decides makes a
difference of its own, 1e-4 to 2e-3 of a gradient in float32 (measured, in eager too). So eager itself is the yardstick:
it is run once more with parameters that are changed by about what rounding in another order would change. A
miscompilation is wrong by its whole size.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Relative difference that is always allowed."""

SHAKE = {torch.float32: 2e-6, torch.float64: 1e-14}
"""Relative change of the parameters that stands for another order of rounding."""

SHAKEN = 5.0
"""How many times the effect of that change compiled results may differ."""

MOST = 2e-2
"""Relative difference up to which that effect counts."""

COARSE = 2.0
"""How many times as far from finer arithmetic as eager coarse results compiled ones may be."""

MOST_COARSE = 0.25
"""Relative difference up to which that distance counts."""

Results = Mapping[str, Tensor]
"""What a step computes, by name."""


def tolerance(dtype: torch.dtype) -> float:
    """The relative difference that is always allowed."""
    return TOLERANCE.get(dtype, 1e-3)


def disagreement(
    eager: Callable[[Tensor], Results],
    found: Results,
    theta: Tensor,
    always: float,
    finer: Callable[[Tensor], Results] | None = None,
) -> str:
    """What of the compiled results differs from eager by more than rounding explains, as a message; empty if nothing.

    Args:
        eager: the results at given parameters `(P,)`, uncompiled.
        found: the compiled results at `theta`, by the same names.
        theta: `(P,)`.
        always: relative difference that is allowed whatever eager does.
        finer: for coarse arithmetic, as bfloat16 is: the same uncompiled in float32. It takes the place of eager, and
            the distance of eager from it that of the effect of a change. What compiling leaves out of coarse rounding
            makes results better.
    """
    if finer is None:
        noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=theta.dtype).to(theta.device)
        right, other = eager(theta), eager(theta * (1 + SHAKE.get(theta.dtype, 1e-6) * noise))
        times, most, whose = SHAKEN, MOST, "eager"
    else:
        right, other = finer(theta), eager(theta)
        times, most, whose = COARSE, MOST_COARSE, "float32"
    for name, a in found.items():
        b = right[name]
        size = b.norm().clamp_min(torch.finfo(b.dtype).tiny)
        allowed = ((other[name] - b).norm() / size).item() * times
        error = ((a - b).norm() / size).item()
        if not error <= max(always, min(allowed, most)):
            return f"the compiled {name} differs from {whose} by {error:.1e} relative"
    return ""

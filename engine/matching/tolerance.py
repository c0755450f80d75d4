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

Results = Mapping[str, Tensor]
"""What a step computes, by name."""


def tolerance(dtype: torch.dtype) -> float:
    """The relative difference that is always allowed."""
    return TOLERANCE.get(dtype, 1e-3)


def disagreement(eager: Callable[[Tensor], Results], found: Results, theta: Tensor, always: float) -> str:
    """What of the compiled results differs from eager by more than rounding explains, as a message; empty if nothing.

    Args:
        eager: the results at given parameters `(P,)`, uncompiled.
        found: the compiled results at `theta`, by the same names.
        theta: `(P,)`.
        always: relative difference that is allowed whatever eager does.
    """
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=theta.dtype).to(theta.device)
    wanted = eager(theta)
    moved = eager(theta * (1 + SHAKE.get(theta.dtype, 1e-6) * noise))
    for name, a in found.items():
        b = wanted[name]
        size = b.norm().clamp_min(torch.finfo(b.dtype).tiny)
        allowed = ((moved[name] - b).norm() / size).item() * SHAKEN
        error = ((a - b).norm() / size).item()
        if not error <= max(always, min(allowed, MOST)):
            return f"the compiled {name} differs from eager by {error:.1e} relative"
    return ""

"""How far compiled results may be from eager ones, and still be the same up to rounding.

Rounding alone moves a gradient by far more than a rounding error: a sign under a ReLU that rounding decides makes a
difference of its own, 1e-4 to 2e-3 of a gradient in float32 (measured, in eager too). So eager itself is the yardstick:
it is run again with parameters that are changed by about what rounding in another order would change, and more than
once, since not every change meets such a sign. A miscompilation is wrong by its whole size.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Relative difference that is always allowed."""

SHAKE = {torch.float32: 2e-6, torch.float64: 1e-14}
"""Relative change of the parameters that stands for another order of rounding."""

SHAKES = 8
"""Changes that are tried, at most; the largest effect counts. Of 12 on a ConvNet, 2 had less than 1e-5, 3 had 5e-4."""

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
    right = eager(theta) if finer is None else finer(theta)
    others = map(eager, _shaken(theta) if finer is None else [theta])
    times, most, whose = (SHAKEN, MOST, "eager") if finer is None else (COARSE, MOST_COARSE, "float32")
    errors = {name: _distance(result, right[name]) for name, result in found.items()}
    left = {name: error for name, error in errors.items() if not error <= always}
    while left and all(error <= most for error in left.values()) and (other := next(others, None)) is not None:
        effects = {name: _distance(other[name], right[name]) for name in left}
        left = {name: error for name, error in left.items() if not error <= effects[name] * times}
    for name, error in left.items():
        return f"the compiled {name} differs from {whose} by {error:.1e} relative"
    return ""


def _shaken(theta: Tensor) -> Iterator[Tensor]:
    """The parameters, changed by about as much as another order of rounding changes them."""
    for seed in range(SHAKES):
        noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(seed), dtype=theta.dtype)
        yield theta * (1 + SHAKE.get(theta.dtype, 1e-6) * noise.to(theta.device))


def _distance(a: Tensor, b: Tensor) -> float:
    """Of `a` from `b`, relative to the size of `b`."""
    return float((a - b).norm() / b.norm().clamp_min(torch.finfo(b.dtype).tiny))

"""How far compiled results may be from eager ones."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.matching import checked_steps
from engine.matching.tolerance import disagreement
from engine.networks.flat import FlatNetwork, flatten_parameters

THETA = torch.linspace(1, 2, 1000)


def off_by(size: float) -> Callable[[Tensor], dict[str, Tensor]]:
    """Results with an error of that relative size, of one sign for each number."""
    signs = torch.randn(1000, generator=torch.Generator().manual_seed(int(1000 * size))).sign()
    return lambda theta: {"gradient": theta * (1 + size * signs)}


@pytest.mark.parametrize(("error", "fits"), [(0.0, True), (0.12, True), (0.15, True), (0.2, False), (1.0, False)])
def test_coarse_results_may_be_as_far_from_fine_ones_as_eager_is(error: float, fits: bool) -> None:
    said = disagreement(off_by(0.08), off_by(error)(THETA), THETA, 5e-2, off_by(0.0))
    assert (said == "") is fits
    if not fits:
        assert f"the compiled gradient differs from float32 by {error:.1e}" in said


def test_an_eager_that_is_far_from_everything_excuses_nothing() -> None:
    assert disagreement(off_by(0.6), off_by(0.3)(THETA), THETA, 5e-2, off_by(0.0))


@pytest.mark.parametrize(
    ("error", "fits"), [(9e-4, True), (2e-3, True), (3e-3, False), (1.0, False), (float("nan"), False)]
)
def test_a_sign_that_rounding_decides_is_found_with_a_few_changes(error: float, fits: bool) -> None:
    """A ReLU whose input is nearly zero: half of all changes turn its sign, the first one does not."""
    first = torch.randn(2, generator=torch.Generator().manual_seed(0))[0].sign()
    calls: list[float] = []

    def eager(theta: Tensor) -> dict[str, Tensor]:
        calls.append(theta[0].item())
        turned = (theta[0] - 1) * first < 0
        return {"gradient": torch.tensor([1.0, 5e-4 if turned else 0.0])}

    said = disagreement(eager, {"gradient": torch.tensor([1.0, error])}, torch.ones(2), 1e-3)
    assert (said == "") is fits
    assert len(calls) == {9e-4: 1, 3e-3: 9}.get(error, len(calls))
    if error == 2e-3:
        assert 2 < len(calls) < 9
    if not error <= 2e-2:
        assert len(calls) == 1  # no rounding explains that


@pytest.mark.parametrize(("factor", "fits"), [(1.0, True), (1.6, False)])
def test_bf16_steps_are_compared_with_float32(factor: float, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(function: Callable[..., Tensor], **options: object) -> Callable[..., object]:
        def wrapped(*given: Tensor) -> object:
            found = function(*given)
            return found * factor if isinstance(found, Tensor) else found

        return wrapped

    monkeypatch.setattr(torch, "compile", compile_)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        batch = (torch.randn(6, 1, 8, 8), torch.rand(6, 3).softmax(1))
    steps, reason = checked_steps(FlatNetwork(model, bf16=True), flatten_parameters(model), [batch], hessian=True)
    assert (reason == "") is fits
    assert (type(steps).__name__ == "CompiledSteps") is fits
    if not fits:
        assert "first-order gradient differs from float32 by 6.0e-01" in reason

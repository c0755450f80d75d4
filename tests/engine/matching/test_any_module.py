"""Any module: the gradient of what it computes, random or not, against the unrolled oracle in float64."""

import pickle
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.matching import EagerSteps, MicroSteps, matching_gradient, matching_sweeps
from engine.networks import FlatNetwork
from engine.networks.dropout import Dropout
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from tests.engine.matching.modules import (
    DRAWING,
    STILL,
    FusedAttention,
    Noise,
    OwnType,
    RareNoise,
    TinyViT,
    case_of,
    frozen,
    mlp,
)
from tests.engine.matching.test_matching import assert_close, relative


def states() -> list[Any]:
    """Of all global generators."""
    kind, words, *rest = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), kind, words.tolist(), *rest]  # type: ignore[union-attr]


def kept_by(model: nn.Module) -> dict[str, Any]:
    """What a call must not change: buffers, parameters, and how far generators and masks are."""
    found: dict[str, Any] = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    found["objects"] = [id(tensor) for _, tensor in (*model.named_parameters(), *model.named_buffers())]
    for name, module in model.named_modules():
        found[f"{name} training"] = module.training
        if isinstance(module, Dropout):
            found[f"{name} calls"] = module.calls
        if isinstance(module, Noise):
            found[f"{name} generators"] = [module.generator.get_state().tolist(), module.python.getstate()]
        if isinstance(module, RareNoise):
            found[f"{name} generator"] = pickle.dumps(module.generator)
    return found


@pytest.mark.parametrize("name", [*DRAWING, *STILL])
def test_exact_equals_unrolled_and_nothing_changes(name: str) -> None:
    case = case_of((DRAWING | STILL)[name])
    before = states(), kept_by(case.model)
    unrolled = case.gradient(mode="unrolled")
    for store in ("device", "checkpoint", "host"):
        assert_close(case.gradient(store=store), unrolled, 1e-9)
    assert relative(case.gradient(mode="paper").loss, unrolled.loss) < 1e-12
    assert (states(), kept_by(case.model)) == before
    assert unrolled.images.norm() > 0


CONSTANTS = ("spectral normalisation",)
"""Modules with vectors that depend on the parameters and are constants all the same: see docs/python.md."""


@pytest.mark.parametrize("name", [name for name in DRAWING | STILL if name not in CONSTANTS])
def test_exact_is_the_slope_of_the_loss(name: str) -> None:
    """Where a derivative of PyTorch is wrong, `unrolled` is as wrong as `exact`: this asks neither."""
    case = case_of((DRAWING | STILL)[name])
    direction = torch.randn(7, 1, 4, 4, generator=counted_generator(1, "direction"), dtype=torch.float64)
    images = case.arguments["images"]
    up, down = (case.gradient(images=images + sign * 1e-5 * direction, seed=1, mode="paper").loss for sign in (1, -1))
    found = float((case.gradient(seed=1).images * direction).sum())
    assert float((up - down) / 2e-5) == pytest.approx(found, rel=1e-5)


def test_threads_wait_for_each_other() -> None:
    case = case_of(DRAWING["Dropout"], steps=20)
    wanted = [case.gradient(seed=seed).images for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: case.gradient(seed=seed).images, range(8)))
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("name", DRAWING)
def test_draws_are_a_function_of_the_seed_and_differ_from_step_to_step(name: str) -> None:
    case = case_of(DRAWING[name], steps=6)
    found = case.gradient(seed=1)
    torch.manual_seed(9)
    random.seed(9)
    assert torch.equal(case.gradient(seed=1).images, found.images)
    others = [case.gradient(seed=seed).loss for seed in range(2, 6)]
    assert any(loss != found.loss for loss in others)


def test_without_a_seed_the_global_generator_decides() -> None:
    case = case_of(DRAWING["Dropout"])
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(case.gradient().loss)
    assert found[0] == found[1] != found[2]


def test_every_step_draws_other_numbers() -> None:
    drawn: list[float] = []

    def noisy(batch: Tensor) -> Tensor:
        noise = torch.rand((), dtype=torch.float64)
        drawn.append(noise.item())
        return batch + noise

    case = case_of(mlp, steps=5, augment=noisy)
    found = case.gradient(store="checkpoint")
    # A call draws once without a seed, before it is known that anything is drawn.
    assert len(set(drawn[1:])) == 5 < len(drawn)
    assert_close(found, case.gradient(mode="unrolled"), 1e-9)


def test_parts_of_a_batch_with_dropout_are_the_gradient_of_what_they_compute() -> None:
    case = case_of(DRAWING["Dropout"])
    steps = MicroSteps(EagerSteps(FlatNetwork(case.model)), 2)

    def loss(**changes: Any) -> Any:
        return run_to_end(matching_sweeps(steps, **{**case.arguments, **changes}, seed=4))

    direction = torch.randn(7, 1, 4, 4, generator=counted_generator(1, "direction"), dtype=torch.float64)
    images, found = case.arguments["images"], loss()
    up, down = (loss(images=images + sign * 1e-6 * direction).loss for sign in (1, -1))
    assert float((up - down) / 2e-6) == pytest.approx(float((found.images * direction).sum()), rel=1e-5)
    for changes in ({"store": "checkpoint"}, {"store": "host"}):
        assert_close(loss(**changes), found, 1e-12)


def test_a_caller_may_draw_between_two_steps() -> None:
    case = case_of(DRAWING["Dropout"])
    wanted = case.gradient(seed=3, mode="unrolled")
    sweeps = matching_sweeps(case.model, **case.arguments, seed=3)
    try:
        while True:
            next(sweeps)
            torch.rand(7)
    except StopIteration as end:
        assert_close(end.value, wanted, 1e-9)


def test_frozen_parameters_do_not_move() -> None:
    case = case_of(frozen)
    size = 16 * 8 + 8
    start, target = case.arguments["start"], case.arguments["target"].clone()
    target[:size] = start[:size]
    # If they moved, the loss would count it, and differ from that of a problem without them.
    found = case.gradient(target=target)
    case.model[1].requires_grad_(True)  # type: ignore[index]
    assert relative(case.gradient(target=target).loss, found.loss) > 1e-3
    rest = nn.Sequential(nn.GELU(), case.model[3], case.model[4])  # type: ignore[index]
    inner = case.model[1](case.model[0](case.arguments["images"])).detach()  # type: ignore[index]
    wanted = matching_gradient(
        nn.Sequential(nn.Flatten(), *rest),
        **{**case.arguments, "start": start[size:], "target": target[size:], "images": inner[:, :, None, None]},
        mode="unrolled",
    )
    assert relative(found.loss, wanted.loss) < 1e-12
    assert relative(found.student_lr, wanted.student_lr) < 1e-9


def test_a_tensor_subclass_keeps_its_own_products() -> None:
    case = case_of(OwnType)
    network, images = FlatNetwork(case.model), case.arguments["images"]
    found = network(case.arguments["start"], images)
    assert type(found) is Tensor
    assert torch.equal(found, case.model(images).as_subclass(Tensor))


class Dispatched(Tensor):
    """A tensor without numbers of its own, as distributed ones are."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type["Dispatched"], inner: Tensor) -> "Dispatched":
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function is torch.ops.aten.detach.default
        return cls(args[0].inner)


def test_a_parameter_with_its_own_dispatcher_is_refused_by_name() -> None:
    case = case_of(mlp)
    case.model[1].weight = nn.Parameter(Dispatched(case.model[1].weight.detach()))  # type: ignore[index]
    with pytest.raises(ValueError, match=r"model's parameter 1\.weight is a Dispatched.*with ordinary parameters"):
        case.gradient()


class Counting(nn.Module):
    """A layer whose result depends on how often it was called."""

    calls: ClassVar[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return x * len(self.calls)


def test_what_cannot_be_replayed_is_refused_by_name() -> None:
    case = case_of(lambda: mlp(Counting()))
    with pytest.raises(ValueError, match=r"model gives two results for one batch \(Counting '3'\).*model\.eval\(\)"):
        case.gradient()
    hidden = torch.Generator().manual_seed(0)
    case = case_of(mlp, augment=lambda batch: batch + torch.rand((), generator=hidden, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"schedule\[0\]'s augmentation gives two results"):
        case.gradient()
    later = [(torch.arange(3), lambda batch: batch), *case.arguments["schedule"]]
    with pytest.raises(ValueError, match=r"schedule\[1\]'s augmentation gives two results"):
        case.gradient(schedule=later)


def test_a_later_step_may_draw_from_python() -> None:
    case = case_of(mlp, augment=lambda batch: batch * random.random())
    later = [(torch.arange(3), lambda batch: batch), *case.arguments["schedule"]]
    assert_close(case.gradient(schedule=later), case.gradient(schedule=later, mode="unrolled"), 1e-9)


def test_models_without_random_numbers_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.matching import draws

    def refuse(*_: Any) -> int:
        raise AssertionError("seeded")

    monkeypatch.setattr(draws, "counted_seed", refuse)
    for name in STILL:
        case_of(STILL[name]).gradient(store="checkpoint")
    with pytest.raises(AssertionError, match="seeded"):
        case_of(DRAWING["Dropout"]).gradient()


def test_a_model_that_draws_is_not_compiled() -> None:
    for name in ("Dropout", "generators of its own"):
        case = case_of(DRAWING[name])
        with pytest.warns(UserWarning, match=r"torch\.compile is not used: the network draws random numbers"):
            found = case.gradient(compile=True, seed=1)
        assert_close(found, case.gradient(mode="unrolled", seed=1), 1e-9)


def test_switches_of_attention_are_put_back() -> None:
    from torch.backends import cuda, mha

    def switches() -> Sequence[bool]:
        return (
            cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled(),
            cuda.math_sdp_enabled(), mha.get_fastpath_enabled(),
        )  # fmt: skip

    before = switches()
    case_of(TinyViT).gradient()
    assert switches() == before
    cuda.enable_math_sdp(False)
    try:
        case_of(lambda: FusedAttention().eval()).gradient()
        assert not cuda.math_sdp_enabled()
    finally:
        cuda.enable_math_sdp(before[3])

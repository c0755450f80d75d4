"""dL/dimages on the device against float64 on the CPU: modes, stores, augmentations, networks, precisions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cuda.check import ALL_OPS, Check, relative, switches
from benchmarks.cuda.problems import matching_problem
from engine.matching import MatchingGradient, matching_gradient, matching_sweeps
from engine.networks import FlatNetwork
from engine.runtime.generators import run_to_end
from engine.tools.bench.reference_implementation import reference_gradient, reference_network

CPU = torch.device("cpu")

DOUBLE = 1e-12
"""Float64 differs by the order of sums only (first run: 1e-15)."""

COARSE = {"convnet": (5e-3, 0.3), "vit": (5e-3, 5e-2)}
"""Limits of TF32 and bfloat16 (first run: 3.5e-4 and 8e-2; 6e-4 and 8e-3). The narrow ResNet18's gradient has none: on
the CPU in float64, TF32's rounding of its parameters moves it by 0.4."""

SEEDS = (0, 1, 2)


def run(check: Check, part: str) -> None:
    """A part is a network, or `activations`."""
    if not check.tiny:
        torch.set_num_threads(2)  # of the CPU's side
    if part == "activations":
        _activations(check)
        return
    _modes(check, part)
    if part == "convnet":
        _each_operation(check)
        with check.guarded("published loop against paper, float64"):
            _published(check)


def _modes(check: Check, network: str) -> None:
    model, inputs = matching_problem(network, ALL_OPS, CPU, torch.float64, tiny=check.tiny)
    wanted = {mode: matching_gradient(model, **inputs, mode=mode) for mode in ("exact", "paper")}
    wanted["unrolled"] = wanted["exact"]
    host = {mode: _error(check, network, mode, wanted[mode], CPU, torch.float32) for mode in ("exact", "paper")}
    ways = [("exact", store) for store in ("device", "host", "checkpoint", "auto")]
    for mode, store in [*ways, ("paper", "auto"), ("unrolled", "auto")]:
        name = f"{mode} ({store})" if mode == "exact" else mode
        with check.guarded(f"float64, {name}"):
            found = _error(check, network, mode, wanted[mode], check.device, torch.float64, store=store)
            check.rows.at_most(f"float64, {name}", found, DOUBLE)
        with check.guarded(f"float32, {name}"):
            found = _error(check, network, mode, wanted[mode], check.device, torch.float32, store=store)
            least = max(20 * host.get(mode, host["exact"]), 1e-5)
            note = f"the CPU's own float32: {host.get(mode, host['exact']):.2g}"
            if network == "resnet18":  # signs under ReLUs decide: see `_activations`
                check.rows.add(f"float32, {name}", f"{found:.2g} ({note})")
            else:
                check.rows.at_most(f"float32, {name}", found, least, note=note)
    with check.guarded("stores, bit by bit"):
        model, inputs = matching_problem(network, ALL_OPS[:4], check.device, tiny=check.tiny)
        switches()
        a, b, c = (matching_gradient(model, **inputs, store=s).images for s in ("device", "host", "checkpoint"))
        same = torch.equal(a, b) and torch.equal(a, c)
        check.rows.holds("stores, bit by bit, float32", same, "equal" if same else "different", "equal")
    for mode in ("exact", "paper"):
        with check.guarded(f"TF32 and bfloat16, {mode}"):
            _coarse(check, network, mode, wanted[mode])


def _error(
    check: Check, network: str, mode: Any, wanted: MatchingGradient, device: torch.device, dtype: torch.dtype,
    *, seed: int = 0, ops: tuple[str, ...] = ALL_OPS, store: Any = "auto",
) -> float:  # fmt: skip
    model, inputs = matching_problem(network, ops, device, dtype, tiny=check.tiny, seed=seed)
    return relative(matching_gradient(model, **inputs, mode=mode, store=store).images, wanted.images)


def _coarse(check: Check, network: str, mode: Any, wanted: MatchingGradient) -> None:
    model, inputs = matching_problem(network, ALL_OPS, check.device, tiny=check.tiny)
    switches(tf32=True)
    tf32 = relative(matching_gradient(model, **inputs, mode=mode).images, wanted.images)
    switches()
    coarse = FlatNetwork(model, bf16=True)
    bf16 = relative(run_to_end(matching_sweeps(coarse, **inputs, mode=mode)).images, wanted.images)
    for name, value, place in (("TF32", tf32, 0), ("bfloat16", bf16, 1)):
        if network in COARSE and not check.tiny:
            check.rows.at_most(f"{name}, {mode}", value, COARSE[network][place])
        else:
            check.rows.add(f"{name}, {mode}", f"{value:.2g}")


def _each_operation(check: Check) -> None:
    for op in ALL_OPS:
        with check.guarded(f"float64, {op} alone"):
            model, inputs = matching_problem("convnet", (op,), CPU, torch.float64, tiny=check.tiny)
            wanted = matching_gradient(model, **inputs)
            found = _error(check, "convnet", "exact", wanted, check.device, torch.float64, ops=(op,))
            check.rows.at_most(f"float64, {op} alone", found, DOUBLE)


def _published(check: Check) -> None:
    model, inputs = matching_problem("convnet", ALL_OPS, check.device, torch.float64, tiny=check.tiny)
    ours = matching_gradient(model, **inputs, mode="paper")
    side = inputs["images"].shape[2]
    size: dict[str, Any] = {"width": 8, "depth": 2} if check.tiny else {"width": 16, "depth": 3}
    plain = reference_network("convnet", channels=3, classes=10, resolution=side, **size)
    images, _ = reference_gradient(plain.to(check.device, torch.float64), **inputs)
    check.rows.at_most("published loop against paper, float64", relative(images, ours.images), DOUBLE)


def _activations(check: Check) -> None:
    """Whether ResNet18's float32 error comes from signs under ReLUs, or from the kernels.

    A smooth activation has no signs; without cuDNN there are no algorithms of its own. Whichever of the two makes the
    error vanish is the cause.
    """
    for smooth in (False, True):
        with smooth_activations() if smooth else _as_they_are():
            for seed in SEEDS:
                with check.guarded(f"ResNet18, seed {seed}"):
                    _one_seed(check, seed, "SiLU instead of ReLU" if smooth else "ReLU", limited=smooth)


def _one_seed(check: Check, seed: int, name: str, *, limited: bool) -> None:
    model, inputs = matching_problem("resnet18", ALL_OPS, CPU, torch.float64, tiny=check.tiny, seed=seed)
    wanted = matching_gradient(model, **inputs)
    there: dict[str, Any] = {"seed": seed, "dtype": torch.float32}
    exact = _error(check, "resnet18", "exact", wanted, check.device, **there)
    unrolled = _error(check, "resnet18", "unrolled", wanted, check.device, **there)
    with torch.backends.cudnn.flags(enabled=False):
        plain = _error(check, "resnet18", "exact", wanted, check.device, **there)
    host = _error(check, "resnet18", "exact", wanted, CPU, **there)
    what = f"ResNet18, {name}, seed {seed}, float32, exact"
    note = f"unrolled {unrolled:.2g}, exact without cuDNN {plain:.2g}, CPU {host:.2g}"
    if limited:
        check.rows.at_most(what, exact, max(20 * host, 1e-5), note=note)
    else:
        check.rows.add(what, f"{exact:.2g} ({note})")


@contextmanager
def smooth_activations() -> Iterator[None]:
    """SiLU wherever a network of this process calls ReLU."""
    kept = torch.relu, nn.ReLU.forward

    def forward(self: nn.ReLU, images: Tensor) -> Tensor:
        return F.silu(images)

    torch.relu = F.silu
    nn.ReLU.forward = forward  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.relu, nn.ReLU.forward = kept  # type: ignore[method-assign]


@contextmanager
def _as_they_are() -> Iterator[None]:
    yield

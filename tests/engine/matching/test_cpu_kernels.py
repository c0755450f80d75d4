"""`compute.cpu_kernels`: off takes our kernels out of every compiled step, and changes results only by rounding."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code

from engine.matching import CompiledSteps, EagerSteps, Steps
from engine.matching.compiled import CpuKernels, fused
from engine.networks.flat import FlatNetwork
from engine.runs.run import Run
from tests.engine.matching.test_compiled import wide_case

ROOT = Path(__file__).parents[3]
PASS = "post_grad_custom_pre_pass"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of everything that would be compiled; it stays eager."""
    seen: list[dict[str, Any]] = []

    def record(function: Callable[..., Any], *, options: dict[str, Any], **more: Any) -> Callable[..., Any]:
        seen.append(options)
        return function

    monkeypatch.setattr(torch, "compile", record)
    return seen


def test_one_module_enters_the_kernels() -> None:
    entered = set()
    for path in (*ROOT.glob("engine/**/*.py"), *ROOT.glob("tesla_tui/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(module.startswith("engine.matching.cpu") for module in modules):
                entered.add(str(path.relative_to(ROOT)))
    outside = {path for path in entered if not path.startswith("engine/matching/cpu/")}
    assert outside == {"engine/matching/compiled.py"}


def test_off_compiles_without_our_pass_and_does_not_load_it(
    compiled: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused(torch.sin)
    monkeypatch.setitem(sys.modules, "engine.matching.cpu.fx_pass", None)  # importing it is an error now
    fused(torch.sin, cpu_kernels="off")
    assert [PASS in options for options in compiled] == [True, False]
    with pytest.raises(ImportError):
        fused(torch.sin)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, at first use
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_the_setting_reaches_teachers_matching_steps_and_evaluations(
    kernels: str, compiled: list[dict[str, Any]], tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.matching import compiled as module
    from engine.training import trainer

    made: list[str] = []
    for place, name in ((module, "CompiledSteps"), (trainer, "compiled_step")):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, real=real, name=name, **k: (made.append(name), real(*a, **k))[1])
    tiny_run("run", "compute.compile=on", f"compute.cpu_kernels={kernels}")
    assert made.count("CompiledSteps") == 1, "the matching steps"
    assert made.count("compiled_step") >= 2, "teachers and evaluations"
    assert {PASS in options for options in compiled} == {kernels == "auto"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_off_gives_the_same_derivatives_but_for_rounding() -> None:
    """Against eager, kernels on and off: the derivatives of a step with its Hessian-vector product."""
    case = wide_case(torch.float64)
    network, start = FlatNetwork(case.model), case.arguments["start"]
    batch = (case.arguments["images"], case.arguments["labels"])
    adjoint = case.arguments["target"] - start

    def computed(steps: Steps) -> dict[str, Tensor]:
        found = steps.derivatives(start, *batch, adjoint, hessian=True)._asdict()
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def compiled(kernels: CpuKernels) -> tuple[dict[str, Tensor], bool]:
        steps = CompiledSteps(network, hessian=True, cpu_kernels=kernels)
        found, code = run_and_get_code(lambda: computed(steps))
        assert code, "something was compiled"
        return found, "torch.ops.tesla." in "".join(code)

    wanted = computed(EagerSteps(network))
    assert set(wanted) == {"along", "images", "labels", "theta"}
    (ours, with_ours), (theirs, with_theirs) = compiled("auto"), compiled("off")
    assert with_ours and not with_theirs, "the compiler's cache keeps the two apart"
    for name, tensor in wanted.items():
        for found in (ours[name], theirs[name]):
            assert float((found - tensor).norm() / tensor.norm()) < 1e-12, name

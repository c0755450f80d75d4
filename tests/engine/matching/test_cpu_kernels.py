"""`compute.cpu_kernels`: off takes our kernels out of every compiled step, and changes results only by rounding."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.utils import run_and_get_code

from engine.matching import CompiledSteps, EagerSteps
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


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_off_gives_the_same_derivatives_but_for_rounding(dtype: torch.dtype, limit: float) -> None:
    case = wide_case(dtype)
    network, start = FlatNetwork(case.model), case.arguments["start"]
    batch = (case.arguments["images"], case.arguments["labels"])
    adjoint = case.arguments["target"] - start

    def derivatives(kernels: CpuKernels) -> tuple[dict[str, torch.Tensor], bool]:
        steps = CompiledSteps(network, hessian=True, cpu_kernels=kernels)
        found, code = run_and_get_code(lambda: steps.derivatives(start, *batch, adjoint, hessian=True))
        assert code, "something was compiled"
        named = {name: tensor.double() for name, tensor in found._asdict().items() if tensor is not None}
        return named, "torch.ops.tesla." in "".join(code)

    eager = EagerSteps(network).derivatives(start, *batch, adjoint, hessian=True)._asdict()
    (ours, with_ours), (theirs, with_theirs) = derivatives("auto"), derivatives("off")
    assert with_ours and not with_theirs, "the compiler's cache keeps the two apart"
    assert set(ours) == set(theirs) == {"along", "images", "labels", "theta"}
    for name in ours:
        wanted = eager[name].double()
        for found in (ours[name], theirs[name]):
            assert float((found - wanted).norm() / wanted.norm()) < limit, name

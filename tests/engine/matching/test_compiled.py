"""Compiled matching steps: the same gradients, the same bits after a resume, and compiled only where it pays."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.errors import UsageError
from engine.events import Event, IterationDone, Notice
from engine.matching import matching_gradient
from engine.networks import build_network
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.compiler_cache import CHOSEN, PYTORCH, use_cache
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.training import compile_policy
from engine.training.compile_policy import MATCHING, matching_compiles, pays
from tests.conftest import TINY
from tests.engine.matching.test_matching import Case, assert_close, make_case

# The compiler warns of its own affairs.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def wide_case(dtype: torch.dtype) -> Case:
    """Wide enough for Winograd's algorithm in the second block, thin enough in the first for patches."""
    case = make_case(3, 3, side=16, student_lr=0.05)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_network("convnet", channels=3, classes=4, resolution=16, width=32, depth=2).to(dtype)
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    generator = torch.Generator().manual_seed(2)
    names = ("images", "labels")
    changed = {name: case.arguments[name].to(dtype) for name in names}
    target = start + 0.05 * torch.randn(start.shape, generator=generator, dtype=torch.float64).to(dtype)
    return Case(model, {**case.arguments, **changed, "start": start, "target": target})


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_identities_hold_with_every_convolution_done_otherwise(mode: str) -> None:
    # Every size of batches is compiled for itself: two of them are in test_squared_error.py, with a smaller network.
    case = wide_case(torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*torch.compile is not used.*")
        found = case.gradient(compile=True, mode=mode)
    assert_close(found, case.gradient(mode="unrolled" if mode == "exact" else "paper"), 1e-9)
    from torch._dynamo.utils import counters

    compiled = counters["stats"]["unique_graphs"]
    for store in ("host", "checkpoint"):
        assert torch.equal(case.gradient(compile=True, mode=mode, store=store).images, found.images)
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_compiled_run_resumes_to_the_same_bits(tiny_run: Callable[..., Run], workspace: Workspace) -> None:
    settings = (
        "compute.compile=on", "evaluate.baseline=false", "distill.steps=2", "network.depth=1",
        "dataset.holdout=0", "teachers.batch=719",  # two batches of one size: what is compiled besides is not the point
    )  # fmt: skip

    def third(event: Event) -> bool:
        return isinstance(event, IterationDone) and event.iteration == 3

    whole = tiny_run("whole", *settings)
    stopped = tiny_run("stopped", *settings, until=third)
    assert max(stopped.checkpoints()) == 3
    tiny_run("stopped", *settings)
    a, b = (run.load_checkpoint(6)[0] for run in (whole, stopped))
    assert all(torch.equal(a[name], b[name]) for name in a)
    entries = [entry for run in (whole, stopped) for entry, _ in read_journal(run.journal_file)]
    notices = [entry.event for entry in entries if isinstance(entry.event, Notice)]
    assert sum("Compiling the matching steps" in notice.message for notice in notices) == 3
    # Teachers of two steps an epoch are near guessing, and called that.
    assert not [notice for notice in notices if notice.level == "warning" and notice.about != "teachers"]


def test_auto_compiles_by_cost(
    workspace: Workspace, tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_policy, "cpu_speed", lambda: 1.0)

    def decision(*overrides: str) -> bool:
        settings = resolve_settings(overrides=[*TINY, "compute.compile=auto", *overrides]).settings
        return matching_compiles(settings, (1, 8, 8), 10)

    assert not decision()
    assert decision("distill.iterations=100000")
    assert decision("compute.compile=on")
    assert not decision("distill.iterations=100000", "compute.compile=off")
    assert not decision("distill.iterations=100000", "distill.gradient=unrolled")
    model = build_network("convnet", channels=3, classes=10, resolution=32, width=128, depth=3)
    images = torch.zeros(100, 3, 32, 32)
    assert not pays(MATCHING, model, images, 100)
    assert pays(MATCHING, model, images, 1000)
    assert not pays(MATCHING, model, images, 1000, "cuda")  # whose large steps gain no more than small ones
    assert pays(MATCHING, model, images, 10_000, "cuda")
    run = tiny_run("short", "compute.compile=auto")
    notices = [entry.event for entry, _ in read_journal(run.journal_file) if isinstance(entry.event, Notice)]
    assert not any("Compiling" in notice.message for notice in notices)


def test_what_is_compiled_is_kept_where_only_this_user_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTORCH, "")  # so that it is restored
    monkeypatch.delenv(PYTORCH)
    monkeypatch.setenv(CHOSEN, str(tmp_path / "kept"))
    use_cache()
    assert Path(os.environ[PYTORCH]) == (tmp_path / "kept").resolve()
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    monkeypatch.setenv(PYTORCH, "/elsewhere")
    use_cache()
    assert os.environ[PYTORCH] == "/elsewhere"


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTORCH, "")
    monkeypatch.delenv(PYTORCH)
    monkeypatch.setenv(CHOSEN, str(tmp_path / "open"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UsageError, match=r"Other users can write to .*open"):
        use_cache()
    assert PYTORCH not in os.environ


def test_a_run_that_does_not_compile_leaves_no_cache(tmp_path: Path) -> None:
    folder = str(tmp_path / "ws")
    environment = {name: value for name, value in os.environ.items() if name != PYTORCH}
    options = [word for text in (*TINY, "compute.compile=auto") for word in ("--set", text)]
    for words in (["init", folder, "--dataset", "digits"], ["run", folder, *options]):
        subprocess.run(
            [sys.executable, "-m", "tesla_tui.main", *words], check=True, capture_output=True, env=environment
        )
    assert sorted(path.name for path in Path(folder).iterdir()) == ["buffers", "dataset.json", "runs", "tesla.toml"]


def test_bf16_is_coarser_and_close(workspace: Workspace) -> None:
    gradients = {}
    for precision in ("float32", "bf16"):
        settings = resolve_settings(overrides=[*TINY, f"compute.precision={precision}"]).settings
        task, _ = run_to_end(open_task(workspace, settings))
        network = task.flat_network()
        case = make_case(1, 2, student_lr=0.05)
        theta = torch.cat([p.detach().reshape(-1) for p in task.fresh_network(1).parameters()])
        labels = torch.full((9, 10), 0.1)
        from engine.matching import matching_sweeps

        gradients[precision] = run_to_end(
            matching_sweeps(
                network, start=theta, target=theta + 0.01, images=case.arguments["images"].float(), labels=labels,
                student_lr=0.05, schedule=case.arguments["schedule"],
            )
        ).images  # fmt: skip
    coarse, fine = gradients["bf16"], gradients["float32"]
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, fine)
    assert torch.cosine_similarity(coarse.flatten(), fine.flatten(), dim=0) > 0.98


def test_the_library_call_says_when_it_could_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> object:
        raise RuntimeError("no compiler here")

    case = make_case(1, 1)
    wanted = case.gradient()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="no compiler here"):
        found = matching_gradient(case.model, **case.arguments, compile=True)
    assert torch.equal(found.images, wanted.images)

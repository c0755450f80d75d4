"""Out of memory: recognised, survived in smaller parts of the same gradient, or explained; nothing of a run is hurt."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.errors import ExitCode, OutOfMemoryError
from engine.events import Event, IterationDone, IterationSkipped, Notice, RunFailed
from engine.matching import EagerSteps, MicroSteps, matching_sweeps, part_sizes
from engine.networks import FlatNetwork
from engine.runs.heartbeat import crash_description
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.finite import non_finite
from engine.runtime.generators import run_to_end
from engine.runtime.out_of_memory import asked_bytes, available_bytes, free_bytes, is_out_of_memory
from engine.session import memory_hints
from engine.training import evaluation as evaluate
from engine.training import teachers
from tests.engine.faulty import CUE
from tests.engine.matching.test_matching import make_case
from tests.forks import ForkedTesla
from tests.processes import NEVER, in_stage, sets, wait_for
from tests.runs import events, newest

RunIt = Callable[..., Run]
FAULTY = (
    "network.name=tests.engine.faulty:network", "distill.ipc=2", "distill.iterations=12", "distill.checkpoint_every=4",
    "evaluate.every=100",
)  # fmt: skip
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of ...")


def real_error() -> Exception:
    try:
        torch.empty(2**50, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("a petabyte was there")


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (real_error(), 2**50),
        (CUDA, int(2.5 * 2**30)),
        (
            RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 96 MiB on private"),
            96 * 2**20,
        ),
        (RuntimeError("std::bad_alloc"), None),
        (MemoryError(), None),
        (OSError(12, "Cannot allocate memory"), None),
    ],
)
def test_every_way_to_say_it_is_understood(error: Exception, asked: int | None) -> None:
    assert is_out_of_memory(error)
    assert asked_bytes(error) == asked


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(28, "No space left"), ValueError("memory")])
def test_other_errors_are_other_errors(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert available_bytes() > 0


def test_free_memory_of_a_device_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"mem_get_info": (10, 100), "memory_reserved": 70, "memory_allocated": 50}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda:1")) == 30  # what the allocator keeps without using it is free


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("teachers", "teachers.batch"),
        ("distillation", "--ipc"),
        ("evaluation", "dataset.resolution"),
        ("other", "--ipc"),
    ],
)
def test_each_stage_has_its_own_advice_without_memory_to_measure(
    monkeypatch: pytest.MonkeyPatch, stage: str, words: str
) -> None:
    def nothing_left(*_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(memory_hints, "_hint", nothing_left)
    assert words in memory_hints.explained(stage, "tried", None).hint


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(("mode", "store"), [("exact", "device"), ("exact", "checkpoint"), ("paper", "auto")])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(mode: Any, store: Any, rows: int) -> None:
    case = make_case(steps=5)
    steps = MicroSteps(EagerSteps(FlatNetwork(case.model)), rows)
    mine = run_to_end(matching_sweeps(steps, **case.arguments, mode=mode, store=store))
    whole = case.gradient(mode=mode, store=store)
    for name in ("loss", "images", "labels", "student_lr"):
        a, b = getattr(mine, name), getattr(whole, name)
        assert a.dtype == torch.float64
        assert float((a - b).norm() / b.norm()) < 1e-12, name


def test_parts_cover_a_batch() -> None:
    assert part_sizes(10, 0) == part_sizes(10, 10) == part_sizes(10, 11) == {10}
    assert part_sizes(10, 4) == {4, 2}
    assert part_sizes(10, 5) == {5}
    with pytest.raises(ValueError, match="at least one"):
        MicroSteps(EagerSteps(FlatNetwork(make_case().model)), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [(), ("labels.kind=target",), ("labels.kind=last",), ("labels.kind=learned", "labels.lr=100"),
     ("distill.gradient=paper",), ("distill.batch=7",)],
)  # fmt: skip
def test_runs_in_parts_end_where_whole_ones_do(tiny_run: RunIt, overrides: tuple[str, ...]) -> None:
    settings = ("compute.dtype=float64", "distill.ipc=2", *overrides)
    whole = newest(tiny_run("whole", *settings, "compute.micro_batch=off"))
    parts = newest(tiny_run("parts", *settings, "compute.micro_batch=3"))
    for name, tensor in whole.items():
        assert float((tensor - parts[name]).norm()) <= 1e-9 * float(tensor.norm()), name
    assert not torch.equal(whole["images"], parts["images"])  # the setting did something: rounding differs


def stop_at(number: int, then: Callable[[Event], None] = lambda event: None) -> Callable[[Event], bool]:
    def until(event: Event) -> bool:
        then(event)
        return isinstance(event, IterationDone | IterationSkipped) and event.iteration == number

    return until


def short_from(number: int, most: int) -> Callable[[Event], None]:
    """After an iteration, forward passes over more images than that are out of memory."""

    def watch(event: Event) -> None:
        if isinstance(event, IterationDone) and event.iteration == number:
            CUE.most_images = most

    return watch


@pytest.mark.slow
def test_after_running_out_the_run_goes_on_in_parts_and_remembers(tiny_run: RunIt) -> None:
    whole = tiny_run("whole", *FAULTY, "compute.micro_batch=off", "evaluate.baseline=false")
    run = tiny_run("r", *FAULTY, until=stop_at(8, short_from(5, 6)))
    told = [e.message for e in events(run, Notice) if "Out of memory" in e.message]
    assert [re.findall(r"step of (\d+) images .*now on, (\d+) are", message) for message in told] == [
        [("20", "10")], [("10", "5")]
    ]  # fmt: skip
    assert "2.7 GB asked for" in told[0]
    assert run.load_checkpoint(8)[1]["rows"] == 5
    # Nothing is short any more; a resumed run goes on as it was, to the bits of one that asked for it from there on.
    CUE.most_images = 0
    tiny_run("r", *FAULTY)
    asked = tiny_run("asked", *FAULTY, "compute.micro_batch=off", until=stop_at(5))
    tiny_run("asked", *FAULTY, "compute.micro_batch=5")
    x, y, z = newest(run), newest(asked), newest(whole)
    assert all(torch.equal(x[name], y[name]) for name in x)
    assert torch.allclose(x["images"], z["images"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("compute.micro_batch=off",), r"--set compute.micro_batch=10 \(the same gradient, in parts\)"),
        (("compute.micro_batch=8",), r"--set compute.micro_batch=4"),
        (("distill.gradient=unrolled",), r"distill.gradient=exact"),
        ((), r"smaller --ipc or network.width"),
    ],
)
def test_what_does_not_fit_is_explained_and_saved(
    tiny_run: RunIt, workspace: Workspace, overrides: tuple[str, ...], words: str
) -> None:
    most = 0 if overrides else -1  # nothing fits, or nothing but parts

    def watch(event: Event) -> bool:
        if isinstance(event, IterationDone) and event.iteration == 3:
            CUE.most_images = 4 if most == 0 else -1
        return False

    with pytest.raises(OutOfMemoryError, match=r"in the stage distillation: 2\.7 GB more were asked for") as caught:
        tiny_run("r", *FAULTY, *overrides, until=watch)
    assert re.search(words, caught.value.hint)
    assert caught.value.exit_code == ExitCode.OUT_OF_MEMORY == 12
    run = workspace.run("r")
    assert max(run.checkpoints()) == 3
    assert events(run, RunFailed)[0].message.startswith(caught.value.message)
    CUE.most_images = 0
    tiny_run("r", *FAULTY, *overrides)
    assert all(torch.equal(newest(run)[name], tensor) for name, tensor in newest(
        tiny_run("whole", *FAULTY, *overrides)).items()) or overrides == ()  # fmt: skip


def test_networks_with_batch_statistics_are_not_taken_apart(tiny_run: RunIt, workspace: Workspace) -> None:
    settings = ("network.name=tests.engine.faulty:batch_network", *FAULTY[1:])

    def watch(event: Event) -> bool:
        if isinstance(event, IterationDone) and event.iteration == 2:
            CUE.most_images = 6
        return False

    with pytest.raises(OutOfMemoryError) as caught:
        tiny_run("r", *settings, until=watch)
    assert "batch statistics" in caught.value.hint
    assert "distill.batch=" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "stage", "hint"),
    [
        (teachers, "_train_epoch", "teachers", "teachers.batch="),
        (evaluate, "train_on_small", "evaluation", "smaller network.width"),
    ],
)
def test_other_stages_say_what_would_fit(
    tiny_run: RunIt,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    stage: str,
    hint: str,
) -> None:
    def short(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, name, short)
    with pytest.raises(OutOfMemoryError, match=f"in the stage {stage}") as caught:
        tiny_run("r")
    assert hint in caught.value.hint
    monkeypatch.undo()
    assert max(tiny_run("r").checkpoints()) == 6


CHILD = """
import resource, sys
import psutil, torch
from engine.session import session
from engine.methods import tesla as distill
from engine.training import evaluation as evaluate  # everything is loaded and mapped before the limit is set
from tesla_tui.main import main
import tesla_tui.cli.run, engine.session.memory_hints
torch.set_num_threads(1)
torch.nn.functional.conv2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3))
limit = psutil.Process().memory_info().vms + int(sys.argv.pop(1)) * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main())
"""


APART = {"COLUMNS": "400", "MALLOC_ARENA_MAX": "1"}
"""One arena: those of threads reserve 128 MB of address space each, which the limit would count."""


def limited(workspace: Workspace, megabytes: int, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`tesla run` in a process whose address space may grow by so much."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(megabytes), "run", str(workspace.folder), "--run", "r", *sets(*overrides)],
        capture_output=True, text=True, env={**os.environ, **APART}, timeout=250,
    )  # fmt: skip


LARGE = (
    "network.width=64", "distill.ipc=100", "distill.batch=full", "distill.steps=2", "distill.iterations=2",
    "teachers.count=1", "teachers.batch=64", "evaluate.epochs=1", "evaluate.repeats=1", "evaluate.baseline=false",
    "dataset.holdout=0", "compute.memory=flat",
)  # fmt: skip
"""Steps of 1000 images with 64 channels; everything else is small beside them."""


@pytest.mark.slow
def test_a_real_limit_is_met_with_smaller_parts(workspace: Workspace) -> None:
    done = limited(workspace, 200, *LARGE)
    assert done.returncode == 0, done.stderr
    run = workspace.run("r")
    told = [e.message for e in events(run, Notice) if "Out of memory" in e.message]
    assert told
    assert "MB asked for" in told[0]
    rows = run.load_checkpoint(2)[1]["rows"]
    assert 0 < rows < 1000
    assert non_finite(newest(run)) == []


@pytest.mark.slow
def test_a_real_limit_without_parts_ends_in_words_and_its_own_exit_code(workspace: Workspace) -> None:
    done = limited(workspace, 200, *LARGE, "compute.micro_batch=off")
    assert done.returncode == 12, done.stderr
    assert "Error: Out of memory in the stage distillation" in done.stderr
    rows = int(re.search(r"compute.micro_batch=(\d+)", done.stderr)[1])  # type: ignore[index]
    assert 1 <= rows <= 500
    assert "Traceback" not in done.stderr
    run = workspace.run("r")
    assert max(run.checkpoints()) == 0
    for _ in range(3):  # what the words say is an estimate: who follows them gets there, by smaller and smaller numbers
        again = limited(workspace, 200, *LARGE, f"compute.micro_batch={rows}")
        if again.returncode == 0:
            break
        smaller = int(re.search(r"compute.micro_batch=(\d+)", again.stderr)[1])  # type: ignore[index]
        assert smaller < rows, again.stderr
        rows = smaller
    assert again.returncode == 0, again.stderr
    assert max(run.checkpoints()) == 2


@pytest.mark.slow
def test_a_killed_driver_is_described_with_its_last_memory(
    tiny_run: RunIt, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("r", until=stop_at(3))
    assert crash_description(run.heartbeat_file) == ""  # ended in order
    with ForkedTesla("run", workspace.folder, "--run", "r", *sets(f"distill.iterations={NEVER}")) as driver:
        wait_for(lambda: max(run.checkpoints()) >= 8 and in_stage(run, "distillation")(), driver)
        driver.kill()
    status = run_status(run)
    assert status.state == "interrupted"
    assert f"process {driver.pid} on" in status.message
    assert "did not shut down cleanly; last heartbeat in the stage distillation at " in status.message
    assert re.search(r"with \d+ MB of memory used and [\d.,]+ [MG]B free", status.message)
    last = json.loads(run.heartbeat_file.read_text())
    run.heartbeat_file.write_text(json.dumps({**last, "free": 10**6, "of a later version": 1}))
    assert "memory was low: the system may have killed it" in run_status(run).message
    tiny_run("r", f"distill.iterations={NEVER}", until=stop_at(max(run.checkpoints()) + 1))
    assert sum("did not shut down cleanly" in e.message for e in events(run, Notice)) == 1
    assert run_status(run).message == ""

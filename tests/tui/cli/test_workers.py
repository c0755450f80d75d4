"""`tesla run --workers 2` through its front door: to the end, killed, stopped, gone on with."""

import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine.errors import ExitCode, TeslaError, WorkerLostError
from engine.events import IterationDone, RunFailed, RunFinished, RunStarted, RunStopped
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import ComputeSettings, resolve_settings
from tesla_tui.process.speaker import LAUNCHER, code_of, reports
from tesla_tui.process.workers import _verdict, launch
from tests.processes import COMMAND, HANGS, sets, wait_for
from tests.runs import events

pytestmark = pytest.mark.slow

SETS = sets()
LONG = [*SETS, "--set", "evaluate.every=1000000", "--set", "evaluate.baseline=false"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder


def start(folder: Path, *options: object, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    command = [*COMMAND, "run", str(folder), "--run", "r", *map(str, options)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )


def distilling_again(run: Run, process: "subprocess.Popen[str]") -> None:
    """Wait until this driver, not an earlier one, has done two iterations."""

    def done() -> bool:
        seen = events(run)
        last = max((i for i, event in enumerate(seen) if isinstance(event, RunStarted)), default=len(seen))
        return started < last + 1 and sum(isinstance(event, IterationDone) for event in seen[last:]) >= 2

    started = sum(1 for _ in events(run))
    wait_for(done, process)


def worker(launcher: "subprocess.Popen[str]", rank: int) -> psutil.Process:
    return next(p for p in psutil.Process(launcher.pid).children() if p.environ().get("RANK") == str(rank))


def words(text: str) -> str:
    assert "Traceback" not in text
    return " ".join(text.split())


def test_two_workers_go_from_data_to_the_table(folder: Path) -> None:
    process = start(folder, "--ipc", 2, "--workers", 2, *SETS)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    # One of them speaks, and who started them shows the result: once each.
    assert out.count("held-out and") == out.count("gained") == 1
    assert f"export {folder} --run r" in words(out)
    run = Run(folder / "runs" / "r")
    assert isinstance(events(run)[-1], RunFinished)
    assert next(e for e in events(run) if isinstance(e, RunStarted)).environment["workers"] == 2
    assert {(r.subject, r.split) for r in run.evaluations()} == {
        (subject, split) for subject in ("distilled", "random") for split in ("holdout", "test")
    }
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["r"]


def test_two_workers_without_an_update_end_with_one_error(folder: Path) -> None:
    changes = ("teachers.batch=1000", "distill.max_loss=0.001", "distill.iterations=12", "evaluate.baseline=false")
    process = start(folder, "--workers", 2, *sets(*changes))
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 1, (out, err)
    assert words(out).count("The teachers are near guessing") == 1 and "near guessing" not in err
    assert words(err).count("No update was applied: all 12 iterations were skipped (distill.max_loss: 12)") == 1
    run = Run(folder / "runs" / "r")
    assert isinstance(events(run)[-1], RunFailed) and not is_driven(run)


def test_killed_stopped_and_gone_on_with(folder: Path) -> None:
    run = Run(folder / "runs" / "r")
    options = ["--workers", 2, *LONG, "--set", "distill.iterations=1000000"]

    process = start(folder, *options)
    distilling_again(run, process)
    other = start(folder, "--workers", 2, *options[2:])  # the same run a second time
    out, err = other.communicate(timeout=HANGS)
    assert other.returncode == 1 and "is already being driven by process" in words(err), (out, err)
    assert is_driven(run)
    victim = worker(process, 1)
    victim.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    assert f"Worker 1 (process {victim.pid}" in words(err) and "SIGKILL" in err
    assert words(err).count("Worker 1") == err.count("Error: ") == 1
    assert "run the same command to resume" in words(err)
    failure = events(run)[-1]
    assert isinstance(failure, RunFailed) and f"Worker 1 (process {victim.pid}" in failure.message
    saved = max(run.checkpoints())
    assert saved >= 2 and not is_driven(run)

    process = start(folder, *options)
    distilling_again(run, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 143, err
    assert f"saved at iteration {max(run.checkpoints())}" in words(out) and "--workers 2" in words(out)
    assert isinstance(events(run)[-1], RunStopped)
    assert max(run.checkpoints()) > saved and not is_driven(run)

    saved = max(run.checkpoints())
    process = start(folder, *LONG, "--set", f"distill.iterations={saved + 2}")
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    assert max(run.checkpoints()) == saved + 2 and isinstance(events(run)[-1], RunFinished)


def test_the_first_worker_stopped_or_the_launcher_killed_ends_all(folder: Path) -> None:
    run = Run(folder / "runs" / "r")
    options = ["--workers", 2, *LONG, "--set", "distill.iterations=1000000"]
    process = start(folder, *options)
    distilling_again(run, process)
    os.kill(json.loads((run.folder / "driver.json").read_text())["pid"], signal.SIGTERM)  # as `tesla stop` does
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 143, err
    assert isinstance(events(run)[-1], RunStopped)

    process = start(folder, *options)
    distilling_again(run, process)
    workers = [worker(process, rank) for rank in range(2)]
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=HANGS)
    assert alive == []
    assert not is_driven(run) and "launcher" in getattr(events(run)[-1], "message", "")


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--workers", "0"], {}, "Invalid value for '--workers'"),
        (
            ["--workers", "2"],
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
            "one of 2 started by torchrun",
        ),
        (["--workers", "2", "--set", "compute.device=mps"], {}, "compute.device = mps"),
    ],
)
def test_workers_that_cannot_be(folder: Path, options: list[str], environment: dict[str, str], said: str) -> None:
    process = start(folder, *options, environment=environment)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 2 and said in words(err)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ({0: 1, 1: -9}, ExitCode.FAILURE),  # the first has told of the second, which the launcher had to kill
        ({1: 12, 0: 1}, ExitCode.OUT_OF_MEMORY),
        ({0: 1, 1: 2}, ExitCode.USAGE),
        ({1: 143, 0: -15}, ExitCode.TERMINATED),
        ({0: 130, 1: 130}, ExitCode.INTERRUPTED),
        ({0: 99}, ExitCode.FAILURE),
        ({1: -9, 0: 143}, "Worker 1 (process 101) was ended by SIGKILL (often a sign of too little memory)."),
        ({0: 143, 1: -11}, "Worker 1 (process 101) was ended by SIGSEGV."),
        ({1: -6, 0: -9}, "Worker 1 (process 101) was ended by SIGABRT."),
    ],
)
def test_the_first_that_failed_is_reported_once(ends: dict[int, int], code: ExitCode | str) -> None:
    failures = {rank: SimpleNamespace(exitcode=end, pid=100 + rank) for rank, end in ends.items()}
    if isinstance(code, ExitCode):
        assert _verdict(failures) is code
    else:
        with pytest.raises(TeslaError) as refused:
            _verdict(failures)
        assert refused.value.message == code


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize("ended", [None, 0, 1])
def test_one_worker_reports_a_lost_one(monkeypatch: pytest.MonkeyPatch, launched: bool, ended: int | None) -> None:
    if launched:
        monkeypatch.setenv(LAUNCHER, "1")
    error = WorkerLostError("Worker 1 was lost.", ended=ended)
    speakers = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        if reports(error):
            speakers.append(rank)
        assert code_of(error) == (ExitCode.TERMINATED if launched and not reports(error) else ExitCode.FAILURE)
    assert speakers == ([] if launched and ended is not None else ["1" if ended == 0 else "0"])


def test_more_workers_than_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from engine.errors import UsageError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"3 workers need 3 CUDA devices; this machine has 2.*at most 2"):
        launch(3, [], ComputeSettings(device="cuda"))
    with pytest.raises(UsageError, match=r"cuda:1 names one device for 2 workers"):
        launch(2, [], ComputeSettings(device="cuda:1"))

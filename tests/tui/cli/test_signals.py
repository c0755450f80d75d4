"""Told to stop, in every stage and by every signal: saved, out in time, the conventional code, and how to go on.

Seconds from the signal to the exit are recorded (`--junitxml` has them). They are no test: whatever is stopped here
would go on for hours, or waits at a gate, so that only what really stops ends at all.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from engine.events import RunFinished, RunStopped
from engine.runs.journal import last_entry
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import resolve_settings
from engine.storage.atomic import TEMP_MARK, read_json
from tests.conftest import TINY
from tests.engine.faulty import GATE
from tests.forks import ForkedTesla
from tests.processes import COMMAND, HANGS, NEVER, in_stage, sets, wait_for

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
pytestmark = pytest.mark.slow

Started = Callable[..., ForkedTesla]
Record = Callable[[float], None]


@pytest.fixture
def record(request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]) -> Record:
    """Keeps the seconds that a process took to leave."""
    return lambda seconds: record_testsuite_property(request.node.name, round(seconds, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder


@pytest.fixture
def tesla(tmp_path: Path) -> Iterator[Started]:
    """`tesla("run", folder, ...)` starts the command with its words in files, and ends it after the test."""
    processes: list[ForkedTesla] = []

    def start(*words: object, ignored: Collection[int] = ()) -> ForkedTesla:
        with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
            processes.append(ForkedTesla(*words, stdout=out, stderr=err, ignored=ignored))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def said(tmp_path: Path, word: str) -> Callable[[], bool]:
    return lambda: word in (tmp_path / "out").read_text()


def stopped(process: ForkedTesla | subprocess.Popen[bytes], number: signal.Signals, record: Record) -> None:
    sent = time.monotonic()
    process.send_signal(number)
    code = process.wait(HANGS)
    record(time.monotonic() - sent)
    assert code == CODES[number]


def words_of(tmp_path: Path) -> str:
    text = (tmp_path / "out").read_text() + (tmp_path / "err").read_text()
    assert "Traceback" not in text and "Exception ignored" not in text, text
    return " ".join(text.split())


STAGES = {
    "teachers": ("teachers", "", ["teachers.epochs=100000", "labels.kind=last"]),
    "compiling": ("teachers", "compiling", ["compute.compile=on"]),
    "distillation": ("distillation", "", [f"distill.iterations={NEVER}", f"evaluate.every={NEVER}"]),
    "held-out evaluation": ("evaluation", "distilled", [f"evaluate.epochs={NEVER}", "evaluate.baseline=false"]),
    "baseline": ("evaluation", "random", [f"evaluate.epochs={NEVER}", "distill.ipc=30"]),
    "final test": (
        "evaluation",
        "distilled",
        [f"evaluate.epochs={NEVER}", "distill.iterations=1", "dataset.holdout=0", "evaluate.baseline=false"],
    ),
}


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes of this test will wait while the file is there; `gate.waits` is there when one does."""
    monkeypatch.setenv(GATE, str(tmp_path / "gate"))
    return tmp_path / "gate"


@pytest.fixture
def endless_compiler(tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A C++ compiler that waits at the gate: no machine is through with compiling before it is told to stop."""
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\nwhile [ -e {gate} ]; do sleep 0.1; done\nexec {shutil.which("g++")} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    gate.touch()
    yield
    gate.unlink()


@SIGNALS
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_is_saved_and_out(
    stage: str, number: signal.Signals, folder: Path, tmp_path: Path, tesla: Started, record: Record,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    name, detail, changes = STAGES[stage]
    if stage == "compiling":
        for needed in ("nothing_compiled", "endless_compiler"):
            request.getfixturevalue(needed)
    run = Run(folder / "runs" / "r")
    process = tesla("run", folder, "--run", "r", *sets(*changes))
    wait_for(in_stage(run, name, detail), process)
    stopped(process, number, record)
    words = words_of(tmp_path)
    assert "Stopped;" in words and f"run {folder} --run r" in words.replace(" \\", "")
    end = last_entry(run.journal_file)
    assert end is not None and isinstance(end.event, RunStopped)
    assert not is_driven(run) and not run.heartbeat_file.exists()
    assert not list(folder.rglob(f"*{TEMP_MARK}*"))
    for iteration in run.checkpoints():
        run.load_checkpoint(iteration)
    if stage == "distillation":
        assert run.checkpoints()


@SIGNALS
def test_the_dataset_cache_is_built_or_can_be_continued(
    number: signal.Signals, tmp_path: Path, tesla: Started, record: Record
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1400, 1400, 3), dtype=np.uint8)
    for k in "ab":
        (tmp_path / "pics" / k).mkdir(parents=True)
    Image.fromarray(noise).save(tmp_path / "pics" / "a" / "0.png", compress_level=1)
    for i in range(1, 1200):
        (tmp_path / "pics" / "ab"[i % 2] / f"{i}.png").hardlink_to(tmp_path / "pics" / "a" / "0.png")
    effective = resolve_settings(overrides=["dataset.name=folder", f"dataset.path={tmp_path / 'pics'}"])
    folder = Workspace.create(tmp_path / "ws", effective, {"dataset.name", "dataset.path"}).folder
    cache = Path(os.environ["TESLA_CACHE"]) / "datasets"
    before = set(cache.glob("folder-*[!k]"))  # of other tests
    process = tesla("run", folder, "--run", "r", *sets())
    wait_for(said(tmp_path, "decoding"), process)
    stopped(process, number, record)
    assert "Stopped; what is decoded is kept" in words_of(tmp_path)
    left = set(cache.glob("folder-*[!k]")) - before
    assert all(TEMP_MARK in path.name and read_json(path / "progress.json")["plan"] for path in left)
    assert not (folder / "runs").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset_cache: None) -> Path:
    """A workspace with a finished run `r`, to be copied."""
    workspace = Workspace.create(tmp_path_factory.mktemp("finished") / "ws", resolve_settings(), set())
    run = workspace.run("r")
    list(drive(workspace, run, workspace.settings(overrides=(*TINY, "labels.kind=target"), run=run)))
    return workspace.folder


def gated_import(module: str, gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this test wait at the gate when they import the module."""
    folder = Path(__file__).parents[2] / "gated_import"
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("TESLA_TEST_IMPORT", module)
    gate.touch()


@SIGNALS
@pytest.mark.parametrize("command", ["evaluate", "export", "plan", "bench"])
def test_other_commands_end_in_time_with_a_sentence(
    command: str, number: signal.Signals, tmp_path: Path, finished: Path, tesla: Started, record: Record, gate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(finished, tmp_path / "ws"))
    run = Run(folder / "runs" / "r")
    if command == "export":
        gated_import("datasets", gate, monkeypatch)  # in the middle of writing, which would be over at once
    arguments: dict[str, tuple[list[object], str, str]] = {
        "evaluate": ([folder, "--set", f"evaluate.epochs={NEVER}"], "Evaluating", "Run the same command to resume"),
        "export": ([folder, "--to", tmp_path / "export"], "Exporting", "nothing was written"),
        "plan": ([folder, "--ipc", 1, "--seconds", 3600], "Measuring", "no plan was made"),
        "bench": (["evaluate", "--json", tmp_path / "bench.json"], "Measuring", "Stopped."),
    }
    words, mark, sentence = arguments[command]
    process = tesla(command, *words)
    wait_for(said(tmp_path, mark), process)
    if command == "export":
        wait_for(gate.with_suffix(".waits").exists, process)
        opening = threading.Timer(0.5, gate.unlink)
        opening.start()
    below = psutil.Process(process.pid).children(recursive=True)
    stopped(process, number, record)
    assert sentence in words_of(tmp_path)
    assert not psutil.wait_procs(below, timeout=HANGS)[1], "processes are left"
    assert not list(tmp_path.glob("export*")) and not list(folder.rglob(f"*{TEMP_MARK}*"))
    assert all(run.load_checkpoint(iteration) for iteration in run.checkpoints())


@SIGNALS
def test_while_libraries_load(
    number: signal.Signals, folder: Path, tmp_path: Path, record: Record, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated_import("torch", gate, monkeypatch)
    command = [*COMMAND, "run", str(folder), "--run", "r", *sets()]
    with (
        open(tmp_path / "out", "w") as out,
        open(tmp_path / "err", "w") as err,
        subprocess.Popen(command, stdout=out, stderr=err) as process,
    ):
        wait_for(gate.with_suffix(".waits").exists, process)
        stopped(process, number, record)
    assert "run the same command to resume" in words_of(tmp_path)


def insisted(process: ForkedTesla) -> Callable[[], bool]:
    """A condition: it has ended; else it is told again, once a second, as it may have heard the first one late."""

    def ended() -> bool:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        return process.returncode is not None

    return ended


def test_a_second_signal_ends_at_once_and_an_echo_does_not(
    folder: Path, tmp_path: Path, tesla: Started, gate: Path
) -> None:
    run = Run(folder / "runs" / "r")
    settings = sets(
        "network.name=tests.engine.faulty:network", f"distill.iterations={NEVER}", f"evaluate.every={NEVER}",
        "evaluate.baseline=false",
    )  # fmt: skip

    def in_a_long_step() -> ForkedTesla:
        process = tesla("run", folder, "--run", "r", *settings)
        wait_for(in_stage(run, "distillation"), process)
        gate.touch()
        wait_for(gate.with_suffix(".waits").exists, process)
        return process

    process = in_a_long_step()
    # The kernel and the shell both tell that a terminal is gone. At once, and as another signal, which stays a second
    # one: two of the same may become one, and a pause may become longer than an echo on a busy machine.
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None, "an echo ended it"
    gate.unlink()
    assert process.wait(HANGS) in (129, 143)  # whichever it hears first
    end = last_entry(run.journal_file)
    assert end is not None and isinstance(end.event, RunStopped), "an echo ended it"

    gate.with_suffix(".waits").unlink()
    process = in_a_long_step()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    assert process.poll() is None, "the first signal lets the step end"
    wait_for(insisted(process), process)
    assert process.wait() == 143, "it still waits at the gate"
    assert "Ended immediately" in words_of(tmp_path)
    assert run.checkpoints() and all(run.load_checkpoint(iteration) for iteration in run.checkpoints())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_two_workers_are_told_together(
    number: signal.Signals, folder: Path, tmp_path: Path, tesla: Started, record: Record
) -> None:
    """As a terminal and a scheduler do it: launcher and workers get the signal, then the launcher tells the workers."""
    run = Run(folder / "runs" / "r")
    settings = sets(f"distill.iterations={NEVER}", f"evaluate.every={NEVER}", "evaluate.baseline=false")
    process = tesla("run", folder, "--run", "r", "--workers", 2, *settings)
    wait_for(in_stage(run, "distillation"), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    for worker in workers:
        worker.send_signal(number)
    stopped(process, number, record)
    assert "Stopped; saved at iteration" in words_of(tmp_path)
    end = last_entry(run.journal_file)
    assert end is not None and isinstance(end.event, RunStopped)
    assert not psutil.wait_procs(workers, timeout=HANGS)[1] and not is_driven(run)


def test_nohup_is_respected(folder: Path, tmp_path: Path, tesla: Started) -> None:
    run = Run(folder / "runs" / "r")
    process = tesla("run", folder, "--run", "r", *sets(f"distill.iterations={NEVER}"), ignored=[signal.SIGHUP])
    wait_for(in_stage(run, "distillation"), process)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANGS) == 143


def test_preempted_again_and_again_it_ends_in_the_same_bits(
    folder: Path, tmp_path: Path, tesla: Started, gate: Path
) -> None:
    """What a scheduler does: SIGTERM, and the same command once more, wherever it was."""
    changes = (
        "network.name=tests.engine.faulty:network", "distill.iterations=30", "evaluate.every=10", "evaluate.epochs=40",
    )  # fmt: skip
    other = Workspace.create(tmp_path / "other", resolve_settings(), set())
    undisturbed, run = other.run("undisturbed"), Run(folder / "runs" / "r")
    list(drive(other, undisturbed, other.settings(overrides=(*TINY, *changes), run=undisturbed)))
    # After so many forward passes of each process: twice in the middle of teachers, then further on.
    passes = (3, 20, 60, 150, 300)
    for number in passes:
        gate.with_suffix(".waits").unlink(missing_ok=True)
        gate.write_text(str(number))
        process = tesla("run", folder, "--run", "r", *sets(*changes))
        wait_for(gate.with_suffix(".waits").exists, process)
        process.send_signal(signal.SIGTERM)
        gate.unlink()
        assert process.wait(HANGS) == 143
    assert tesla("run", folder, "--run", "r", *sets(*changes)).wait(HANGS) == 0
    end = last_entry(run.journal_file)
    assert end is not None and isinstance(end.event, RunFinished)
    assert run.checkpoints()[-1] == undisturbed.checkpoints()[-1] == 30
    for iteration in {*run.checkpoints()} & {*undisturbed.checkpoints()}:
        one, two = run.load_checkpoint(iteration)[0], undisturbed.load_checkpoint(iteration)[0]
        assert all(torch.equal(one[name], two[name]) for name in one)
    results = [[(r.split, r.subject, r.accuracies) for r in which.evaluations()] for which in (run, undisturbed)]
    assert results[0] == results[1]


def test_the_documented_batch_script_requeues_until_it_is_done(folder: Path, tmp_path: Path, gate: Path) -> None:
    """As it stands in docs/stopping.md, with stand-ins for what SLURM brings."""
    text = (Path(__file__).parents[3] / "docs" / "stopping.md").read_text()
    lines = text[text.index("    #!/bin/bash") :].split("\n\n*")[0].splitlines()
    settings = " ".join(sets("network.name=tests.engine.faulty:network"))
    script = "\n".join(line[4:] for line in lines).replace("/shared/my-run --ipc 10", f"{folder} --run r {settings}")
    (tmp_path / "job.sh").write_text(script)
    tools = tmp_path / "bin"
    tools.mkdir()
    stand_ins = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/requeued',
        "tesla": f'exec {sys.executable} -m tesla_tui.main "$@"',
    }
    for name, line in stand_ins.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}

    gate.write_text("200")  # passes: teachers are there then
    job = subprocess.Popen(["bash", tmp_path / "job.sh"], env=environment, stdout=subprocess.PIPE, text=True)
    wait_for(gate.with_suffix(".waits").exists, job)
    job.send_signal(signal.SIGTERM)
    gate.unlink()
    said, _ = job.communicate(timeout=HANGS)
    assert job.returncode == 0 and "Stopped; saved at iteration" in " ".join(said.split())
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"

    job = subprocess.Popen(["bash", tmp_path / "job.sh"], env=environment, stdout=subprocess.PIPE, text=True)
    said, _ = job.communicate(timeout=HANGS)
    assert job.returncode == 0 and "resuming from iteration" in said
    assert (tmp_path / "requeued").read_text() == "requeue 42\n", "a finished job must not be queued again"

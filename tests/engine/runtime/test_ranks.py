"""Two ranks on the loopback interface compute what one does; what cannot be divided is refused."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed import HashStore, TCPStore

from engine.data import draw_augment
from engine.errors import DivergedError, UsageError, WorkerLostError
from engine.events import RunStopped
from engine.runs.journal import read_journal
from engine.runs.workspace import Workspace
from engine.runtime.distributed import watchdog
from engine.runtime.distributed.environment import RankEnvironment, this_place
from engine.runtime.distributed.process_group import _choose_nccl
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.distributed.watchdog import DONE, FAILED, FOLLOWED, Watchdog
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from engine.session.open_task import open_task
from engine.session.session import drive
from engine.settings import resolve_settings
from tests.conftest import TINY
from tests.engine.runtime.rank import KINDS, evaluations, relative


def two_ranks(
    function: str, folder: Path, *environments: dict[str, str], most: float = 200
) -> list["subprocess.CompletedProcess[str]"]:
    """Run a function of rank.py in two processes; `environments` are what each has of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.engine.runtime.rank", function, str(folder)]
    processes = [
        subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={
                **os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo",
                **environment,
            },
        )
        for rank, environment in enumerate(environments or ({}, {}))
    ]  # fmt: skip
    done = []
    for process in processes:
        out, err = process.communicate(timeout=most)
        done.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return done


@pytest.mark.slow
def test_two_ranks_compute_the_gradient_of_one(tmp_path: Path) -> None:
    for process in two_ranks("numbers", tmp_path):
        assert process.returncode == 0, process.stderr
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    for found in (first, second):
        errors = {name: value for name, value in found.items() if " " in name or name == "labels"}
        assert len(errors) == 13
        assert max(errors.values()) < 1e-12, errors
        assert found["dropout"] == pytest.approx(found["slope"], rel=2e-5)
        assert found["led"] == 0 and found["gathered"] == [0, 10] and found["agreed"] == 1.0
    assert first["apart"] == "" and second["apart"].startswith("Worker 1 computed 2 where worker 0 computed 1")


@pytest.mark.slow
def test_two_ranks_distil_the_images_of_one(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", resolve_settings(), set())
    for process in two_ranks("runs", tmp_path):
        assert process.returncode == 0, process.stderr
    for name, overrides in KINDS.items():
        run = workspace.run(f"{name}-1")
        events = drive(workspace, run, workspace.settings(overrides=(*TINY, *overrides), run=run))
        if name == "skipping":  # every rank ends with what one process says
            with pytest.raises(DivergedError) as refused:
                run_to_end(events)
            assert "distill.max_loss: 12" in refused.value.message
            for rank in range(2):
                said = json.loads((tmp_path / f"rank-{rank}.json").read_text())
                assert said == {"skipping": refused.value.message}
        else:
            run_to_end(events)
        shared = workspace.run(f"{name}-2")
        assert run.checkpoints() == shared.checkpoints()
        last = max(run.checkpoints())
        (one, one_counters), (two, two_counters) = run.load_checkpoint(last), shared.load_checkpoint(last)
        assert one_counters["skipped"] == two_counters["skipped"]
        assert one_counters["recoveries"] == two_counters["recoveries"]
        for tensor, most in {"images": 1e-5, "student_lr": 1e-5, "logits": 1e-5, "velocity_images": 1e-4}.items():
            if tensor in one:
                difference = relative(two[tensor], one[tensor])
                assert difference < most, f"{name}: {tensor} {difference:.1e}"
        assert torch.equal(one["images"], run.load_checkpoint(0)[0]["images"]) == (name == "skipping")
        a, b = ([(r.subject, r.split, r.iteration) for r in each.evaluations()] for each in (run, shared))
        assert a == b
    # Both trained teachers; one journal tells of what its process did, the buffer of everything.
    kinds = [entry.event.kind for entry, _ in read_journal(workspace.run("hard-2").journal_file)]
    assert kinds.count("RunStarted") == kinds.count("RunFinished") == 1
    assert kinds.count("IterationDone") == 20


@pytest.mark.slow
def test_a_rank_that_fails_does_not_leave_the_other_hanging(tmp_path: Path) -> None:
    first, second = two_ranks("fails", tmp_path)
    assert "ValueError: a bug" in second.stderr
    assert first.returncode == 1
    assert "WorkerLostError: Worker 1 (process" in first.stderr and "failed: ValueError: a bug" in first.stderr


@pytest.mark.slow
def test_two_ranks_evaluate_with_the_bits_of_one(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "ws", resolve_settings(), set())
    for process in two_ranks("evaluations", tmp_path):
        assert process.returncode == 0, process.stderr
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    alone = json.loads(json.dumps(evaluations(Ranks(), tmp_path)))
    assert alone["accuracies"] == first["accuracies"] == second["accuracies"]
    assert [len(found) for found in alone["accuracies"]] == [3, 2, 3]
    assert alone["labels"] == first["labels"] == second["labels"]
    # Each network was trained by one rank, to the same parameters.
    assert len(alone["networks"]) == 8 and len(first["networks"]) == len(second["networks"]) == 4
    assert sorted(first["networks"] + second["networks"]) == sorted(alone["networks"])
    # The bar of the first counts all networks, and what the second is warned about is not lost.
    assert first["progress"] == sorted(first["progress"]) and 7.9 < first["progress"][-1] <= 8
    assert sum("diverged" in words for words in first["warnings"]) == 3


@pytest.mark.slow
def test_an_evaluation_stopped_by_one_rank_is_made_by_the_next_driver(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws", resolve_settings(), set())
    for process in two_ranks("stops", tmp_path):
        assert process.returncode == 1 and "WorkersStoppedError" in process.stderr, process.stderr
    run = workspace.run("stops")
    assert isinstance([entry.event for entry, _ in read_journal(run.journal_file)][-1], RunStopped)
    assert not any(result.iteration == 3 for result in run.evaluations()) and max(run.checkpoints()) == 3
    run_to_end(drive(workspace, run, workspace.settings(overrides=TINY, run=run)))
    found = {(r.subject, r.split, r.iteration) for r in run.evaluations() if r.split == "holdout"}
    assert found == {("random", "holdout", 0), *(("distilled", "holdout", iteration) for iteration in (0, 3, 6))}


@pytest.mark.slow
def test_hosts_share_a_run_if_they_see_its_folder(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "ws", resolve_settings(), set())
    places = []
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        Workspace.create(tmp_path / host / "ws", resolve_settings(), set())
        places.append({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TESLA_CACHE": str(tmp_path / host / "cache")})
    for process in two_ranks("hosts", tmp_path, *places):
        assert process.returncode == 0, process.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert "is not the folder that worker 0 writes to" in found["apart"] and "all machines share" in found["hint"]
        assert found["decoded"] == 1  # each host has its own cache
    for folder in (tmp_path / "ws", tmp_path / "a" / "ws", tmp_path / "b" / "ws"):
        assert not list(folder.glob("shared*"))
    run = Workspace(tmp_path / "ws").run("hosts")
    assert max(run.checkpoints()) == 6 and len(run.evaluations()) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("function", ["stands_still", "dies", "dies_while_the_other_computes"])
def test_a_rank_that_is_lost_ends_the_other_with_a_sentence(tmp_path: Path, function: str) -> None:
    first, _ = two_ranks(function, tmp_path, most=100)
    assert first.returncode == 1, first.stderr
    assert re.search(r"WorkerLostError: Worker 1 \(process \d+ on .*\) was lost", first.stderr), first.stderr
    assert float((tmp_path / "waited").read_text()) < 40  # a bound for a busy machine: silence is 4 seconds here


def test_a_main_thread_that_waits_for_its_device_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STUCK", 0.2)
    monkeypatch.setattr(watchdog, "EVERY", 0.05)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    released = threading.Event()
    mine = Watchdog(store, RankEnvironment(0, 2, 0, 1), released.set)
    other = Watchdog(store, RankEnvironment(1, 2, 0, 1), lambda: None)
    mine.start()
    other.leave(FAILED, "a bug")
    try:
        assert released.wait(timeout=60)  # nobody called `check`
        with pytest.raises(WorkerLostError, match=r"Worker 1 .* failed: a bug"):
            mine.check()
    finally:
        mine.leave(DONE)


def test_one_that_leaves_lets_the_first_notice() -> None:
    """Once it has ended, the launcher ends the first by a signal, which a busy first took for a request to stop."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    first = Watchdog(store, RankEnvironment(0, 2, 0, 2), lambda: None)
    other = Watchdog(store, RankEnvironment(1, 2, 1, 2), lambda: None)
    leaving = threading.Thread(target=other.leave, args=(FAILED, "a bug"))
    leaving.start()
    leaving.join(timeout=1)
    assert leaving.is_alive()
    first.leave(FOLLOWED, "a bug")
    leaving.join(timeout=60)
    assert not leaving.is_alive()


@pytest.mark.parametrize(
    ("names", "others", "chosen"),
    [
        ([], b"0", False),
        (["NVIDIA H100"], b"1", True),
        (["NVIDIA H100"], b"0", False),
        (["NVIDIA A100 MIG 1g.5gb"], b"1", False),
    ],
)
def test_parts_of_one_gpu_do_not_use_nccl(
    monkeypatch: pytest.MonkeyPatch, names: list[str], others: bytes, chosen: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
    store = HashStore()
    store.set("nccl/1", others.decode())
    assert _choose_nccl(store, RankEnvironment(0, 2, 0, 2)) is chosen


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_cover_a_batch(size: int) -> None:
    parts = [Ranks(RankEnvironment(rank, size, rank, size)).part(7) for rank in range(size)]
    assert [i for part in parts for i in range(7)[part]] == list(range(7))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("op", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_an_image_is_augmented_alike_in_a_part(op: str) -> None:
    images = torch.randn(7, 3, 8, 8, generator=counted_generator(0, "images"))
    augment = draw_augment(counted_generator(0, "op"), (op,), images.shape)
    assert torch.allclose(augment.rows(slice(2, 5))(images[2:5]), augment(images)[2:5], atol=1e-6)


def batch_norm(*, channels: int, classes: int, resolution: int, **_: object) -> nn.Module:
    """A network that looks at its whole batch."""
    flat = channels * resolution**2
    return nn.Sequential(nn.Flatten(), nn.Linear(flat, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("distill.batch=1",), r"2 workers cannot divide a batch of 1 synthetic image "),
        (("distill.batch=9", "distill.steps=2"), r"batch of 1 synthetic image \(distill.batch = 9, 10 images"),
        (("distill.gradient=unrolled",), r"unrolled is the reference, for one process"),
        (("network.name=tests.engine.runtime.test_ranks:batch_norm",), r"depends on the whole batch"),
    ],
)
def test_what_cannot_be_divided_is_refused(workspace: Workspace, overrides: tuple[str, ...], words: str) -> None:
    settings = resolve_settings(overrides=[*TINY, *overrides]).settings
    assert run_to_end(open_task(workspace, settings))
    with pytest.raises(UsageError, match=words):
        run_to_end(open_task(workspace, settings, Ranks(RankEnvironment(0, 2, 0, 2))))


def test_a_place_is_torchruns_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_place() == RankEnvironment() and this_place().writes
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE is not"):
        this_place()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert this_place() == RankEnvironment(3, 4, 1, 2) and not this_place().writes

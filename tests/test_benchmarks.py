"""The scripts in benchmarks/ still run: at the smallest size, from another folder, as their own text says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import presets
from benchmarks.cuda.groups import Group
from benchmarks.cuda.markdown import page
from benchmarks.cuda.rows import Rows, read_rows
from benchmarks.cuda.runner import Runner
from engine.runs.workspace import Workspace
from tests.processes import HANGS

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("evaluation", "--size digits --epochs 1 --repeats 1 --rounds 1 --side eager", "eager"),
        ("decoding", "--images 300 --files 2 --side 16", "images/s"),
        ("plan", "--size digits --set distill.iterations=2 --set evaluate.epochs=2", "planned / run"),
        ("gradient_memory", "--width 16 --batch 2 --steps 1", "checkpoint"),
        ("presets", "--table", "digits  IPC 10 "),
    ],
)
def test_benchmark_runs(name: str, options: str, said: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_a_search_ends_before_the_test_and_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "teachers.count": 1, "distill.iterations": 2, "distill.steps": 2, "distill.teacher_epochs": 1,
        "distill.max_start_epoch": 1, "evaluate.every": 1, "evaluate.epochs": 2, "network.width": 4,
    }  # fmt: skip
    monkeypatch.setattr(presets, "DIGITS", tiny)
    monkeypatch.setattr(presets, "SEARCHES", [presets.Search("digits", 1, {presets.LR: (1.0, 2.0)})])
    monkeypatch.setattr(presets, "commit", lambda: "0000000")
    results = tmp_path / "rows.json"
    for _ in range(2):
        presets.search("digits", tmp_path, results)
        rows = json.loads(results.read_text())
        assert [row["settings"][presets.LR] for row in rows] == [1.0, 2.0]
    assert all(set(row["curve"]) == {"0", "1", "2"} and row["n"] == 3 for row in rows)
    found = [one for run in Workspace(tmp_path / "digits").runs() for one in run.evaluations()]
    assert len(found) == 6
    assert {one.split for one in found} == {"holdout"}


def cuda(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The checks of `make cuda`, with the page in a folder."""
    command = [sys.executable, "-m", "benchmarks.cuda", "--out", str(folder / "page.md"), *options]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=FOLDER.parent, env=hidden, capture_output=True, text=True, timeout=HANGS)


def test_without_a_gpu_its_checks_do_nothing(tmp_path: Path) -> None:
    done = cuda(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no CUDA device" in done.stdout
    assert not (tmp_path / "page.md").exists()


def test_the_checks_of_a_gpu_are_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    groups = ("doctor", "nccl")
    done = cuda(tmp_path, "--device", "cpu", "--only", *groups, "--rows", str(tmp_path / "rows.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| two ranks over gloo, float64, gradient against one process |" in page
    assert "0 failed, 0 not finished" in page
    rows = read_rows(tmp_path / "rows.jsonl")
    assert {row.group for row in rows} == set(groups)
    assert all(f"| {row.what} |" in page for row in rows)


def group(seconds: float, part: str) -> Group:
    """A group of checks whose parts are those of the real `bits`."""
    return Group("bits", "Bits", "", parts=(part,), seconds=seconds)


def test_a_part_that_does_not_end_is_a_row_and_the_next_one_runs(tmp_path: Path) -> None:
    told: list[str] = []
    rows = tmp_path / "rows.jsonl"
    runner = Runner(rows, tmp_path, "cpu", time.monotonic() + HANGS, 1, told.append)
    runner.run([group(0.5, "sessions"), Group("memory", "Memory", "", parts=("exact",))])
    found = [(row.group, row.verdict) for row in read_rows(rows)]
    assert found == [("bits", "not finished"), ("memory", "not run")]
    assert [words.split()[-2] for words in told] == ["bits", "memory"]


def test_when_the_time_is_up_what_is_left_is_said_not_to_have_run(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    Runner(rows, tmp_path, "cpu", time.monotonic() + 1, 1, lambda words: None).run([group(60, "sessions")])
    assert [(row.what, row.verdict) for row in read_rows(rows)] == [("sessions", "not run")]


def test_an_error_of_a_check_is_a_row_with_its_place(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.jsonl", "bits", "")
    with rows.guarded("something"):
        raise ValueError("a | b")
    rows.at_most("a number", float("nan"), 1.0)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"group": "bits", "pa')  # cut off by a kill
    found = read_rows(tmp_path / "rows.jsonl")
    assert [row.verdict for row in found] == ["fail", "fail"]
    assert found[0].measured.startswith("ValueError: a | b")
    text = page(found, "cuda", 1.0)
    assert "| something | ValueError: a / b" in text
    assert "0 passed, 2 failed" in text

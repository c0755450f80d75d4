"""`tesla bench` through its front door: every test is a program that really measures something small."""

import io
import json
import os
import platform
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from engine.tools.bench.cases import CASES, MODES, configurations, varied, with_authors_allocator
from engine.tools.bench.gradient import GradientBench
from tesla_tui.render.bench import gradient_tables
from tests.forks import ForkedTesla
from tests.processes import HANGS, wait_for

pytestmark = pytest.mark.slow

ALLOCATORS = platform.libc_ver()[0] == "glibc"

TINY = ("--batch", "6", "--width", "4", "--depth", "2", "--resolution", "8", "--classes", "5", "--threads", "1")


def spawn(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, **options: Any) -> ForkedTesla:
    environment = {**os.environ, "COLUMNS": "140", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= variables or {}
    return ForkedTesla("bench", *arguments, cwd=folder, env=environment, **options)


def bench(folder: Path, *arguments: str, **options: Any) -> tuple[int, str, str]:
    process = spawn(folder, *arguments, **options)
    out, err = process.communicate(timeout=HANGS)
    return process.wait(), out, err


def test_gradient_prints_draws_and_records(tmp_path: Path) -> None:
    modes = ("--mode", "published", "--mode", "exact", "--no-compile", "--markdown", "found.md")
    code, out, err = bench(tmp_path, "gradient", *TINY, *modes, "--steps", "1", "--steps", "3", "--rounds", "2")
    assert code == 0, err
    for words in (
        "One iteration: convnet width 4 depth 2",
        "published",
        "exact",
        "of matmul",
        "Matmul peak",
        "Load av",
    ):
        assert words in out
    with Image.open(tmp_path / "bench-gradient.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(0x55, 0x55, 0x55), (0x00, 0x72, 0xB2)} <= colours  # a bar or line of either mode
    record = json.loads((tmp_path / "bench-gradient.json").read_text())
    assert record["complete"] and record["machine"]["threads"] == 1
    assert record["command"].startswith("tesla bench gradient --batch 6")
    theirs = ["published (default alloc.)"] if ALLOCATORS else []
    labels = ["published", *theirs, "exact"]
    assert [(row["label"], row["steps"]) for row in record["rows"]] == [(label, t) for t in (1, 3) for label in labels]
    peak = max(record["matmul_flops_per_second"]["auto"].values())
    for row in record["rows"]:
        assert len(row["samples"]) == len(row["cpu_samples"]) >= 2 and min(row["samples"]) > 0
        assert row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert row["peak_bytes"] > 0
        assert row["of_matmul_peak"] == pytest.approx(row["flops"] / row["seconds"]["median"] / peak)
        assert row["switches"] == record["rows"][0]["switches"] | {"allocator": row["switches"]["allocator"]}
    published, *_, exact = record["rows"][: len(labels)]
    assert exact["of_published"] == pytest.approx(exact["seconds"]["median"] / published["seconds"]["median"])
    assert (exact["of_published_default_allocator"] is not None) == ALLOCATORS
    markdown = (tmp_path / "found.md").read_text()
    assert f"| exact | **{exact['of_published']:.2f}** | {exact['of_published_cpu_time']:.2f} |" in markdown
    assert record["command"] in markdown


@pytest.mark.skipif(not ALLOCATORS, reason="the allocator policies are glibc's")
def test_the_table_leads_with_equal_allocators_and_shows_the_authors_too(tmp_path: Path) -> None:
    modes = ("--mode", "published", "--mode", "exact", "--no-compile", "--steps", "1", "--rounds", "1")
    code, out, err = bench(tmp_path, "gradient", *TINY, *modes, "--memory", "flat", "--memory", "fast")
    assert code == 0, err
    found = {row["label"]: row for row in json.loads((tmp_path / "bench-gradient.json").read_text())["rows"]}
    median = {label: row["seconds"]["median"] for label, row in found.items()}
    lines = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    shown = {cells[2]: cells[3:5] for cells in lines}
    for label, base in (("exact", "published"), ("exact (flat alloc.)", "published (flat alloc.)")):
        assert found[label]["of_published"] == pytest.approx(median[label] / median[base])
        theirs = median[label] / median["published (default alloc.)"]
        assert found[label]["of_published_default_allocator"] == pytest.approx(theirs)
        assert shown[label] == [f"{found[label]['of_published']:.2f}", f"{theirs:.2f}"]
    assert found["published (default alloc.)"]["of_published"] is None
    assert {row["switches"]["allocator"] for row in found.values()} == {"fast", "flat", "default"}
    assert "of published: time relative to published code with the same threads, precision, determinism and al" in out


def test_without_a_compiler_the_table_says_that_nothing_was_compiled(tmp_path: Path) -> None:
    variables = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    options = ("--mode", "exact", "--modules", "plain", "--compile", "--steps", "1", "--rounds", "1")
    code, out, err = bench(tmp_path, "gradient", *TINY, *options, variables=variables)
    assert code == 0, err
    assert "│ exact (plain) NOT compiled │" in out and "No working C++ compiler" in " ".join(out.split())
    assert "Compiling took" not in out
    (row,) = json.loads((tmp_path / "bench-gradient.json").read_text())["rows"]
    assert row["fell_back"] and row["modules"] == "plain" and row["samples"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_breaks_no_cell_whatever_the_terminal(width: int) -> None:
    steps = CASES["quick"].steps
    chosen = configurations(varied(CASES["quick"].shape), MODES, (*steps, 100), stores=("checkpoint",))
    rows = with_authors_allocator(chosen)
    measured = GradientBench(rows, 3)
    for row in measured.rows:
        row.samples += [123.4, 124.5, 124.6]
        row.peak_bytes = 12_345_678_901
    console = Console(width=width, file=io.StringIO())
    (table,) = gradient_tables(measured, console)
    console.print(table)
    assert measured.rows[1].label == "published (default alloc.)"
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in out and "12.3 GB" in out and "2 min 04 s" in out and "exact (checkpoint) compiled" in out
    assert ("spread" in out) == (width == 140) and bool(re.search(r"default ┃", out)) == (width > 80)


def test_ctrl_c_prints_what_was_measured_and_leaves_no_process(tmp_path: Path) -> None:
    modes = ("--mode", "published", "--mode", "exact", "--no-compile")
    said = tmp_path / "said"
    with open(said, "w") as out_file:
        process = spawn(
            tmp_path, "gradient", *TINY, *modes, "--steps", "1", "--steps", "2", "--rounds", "100000",
            stdout=out_file, changed={"tesla_tui.render.display.PLAIN_EVERY": 0.0},
        )  # fmt: skip
    # When the last of a round comes up a second time, a whole round is over.
    wait_for(lambda: len(re.findall(r"measurements, exact, T = 1(?! \(warming)", said.read_text())) >= 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    started = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANGS)
    out = said.read_text()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Measured so far" in out and "One iteration" in out
    record = json.loads((tmp_path / "bench-gradient.json").read_text())
    assert not record["complete"]
    assert record["rows"][0]["samples"] and not record["rows"][-1]["samples"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gradient", "--mode", "fast"), "'fast' is not one of"),
        (("gradient", "--network", "convnt"), "Did you mean convnet?"),
        (("gradient", "--device", "tpu"), "compute.device"),
        (("gradient", "--precision", "bf16"), "'bf16' is not one of"),
        (("gradient", "--network", "resnet18", "--modules", "plain"), "Only convnet has plain modules"),
        (("gradient", "--depth", "9"), "is too deep for 32x32 images"),
        (("teachers", "--dataset", "./nowhere"), "no such folder"),
        (("evaluate", "--set", "evaluate.epoch=3"), "evaluate.epochs"),
    ],
)
def test_what_cannot_be_measured_is_said_in_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = bench(tmp_path, *arguments)
    assert code == 2 or "nowhere" in arguments[-1]
    assert code in (1, 2) and words in " ".join(err.split()) and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["teachers", "evaluate", "data"])
def test_stages_beside_published_loops(tmp_path: Path, stage: str) -> None:
    sets = ("--set", "network.width=4", "--threads", "1", "--rounds", "1", "--json", "found.json")
    more = {
        "teachers": ("--epochs", "1"),
        "evaluate": ("--epochs", "3", "--ipc", "2", "--repeats", "2", "--memory", "flat"),
        "data": ("--set", "compute.memory=flat"),
    }
    code, out, err = bench(tmp_path, stage, *sets, *more[stage])
    assert code == 0, err
    assert "per second" in out and "spread" in out and "!" not in out and "relative to published" in out
    record = json.loads((tmp_path / "found.json").read_text())
    rows = record["rows"]
    assert [row["label"] for row in rows] == [
        "published",
        *(["published (default alloc.)"] if ALLOCATORS else []),
        *(["memory-mapped", "resident"] if stage == "data" else ["ours"]),
    ]
    for row in rows:
        ours = "fast" if stage == "teachers" else "flat"
        allocator = "system" if not ALLOCATORS else "default" if "default" in row["label"] else ours
        assert row["switches"] == rows[0]["switches"] | {"allocator": allocator}
    assert rows[-1]["of_published"] == pytest.approx(rows[-1]["samples"][0] / rows[0]["samples"][0])
    if ALLOCATORS:
        theirs = rows[-1]["samples"][0] / rows[1]["samples"][0]
        assert rows[-1]["of_published_default_allocator"] == pytest.approx(theirs)
        assert rows[1]["of_published"] is None
    # 90 % of the digits' training images teach; 2 networks see 20 images in 3 epochs.
    assert len({row["images"] for row in rows}) == 1
    assert rows[0]["images"] == 2 * 20 * 3 if stage == "evaluate" else 1000 < rows[0]["images"] < 1797
    for row in rows:
        assert len(row["samples"]) == 1
        assert row["images_per_second"] == pytest.approx(row["images"] / row["samples"][0])

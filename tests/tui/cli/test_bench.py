"""`tesla bench` through its front door: every test is a program that really measures something small."""

import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from engine.tools.bench.cases import CASES, MODES, configurations, varied
from engine.tools.bench.gradient import GradientBench
from tesla_tui.render.bench import gradient_tables
from tests.forks import ForkedTesla
from tests.processes import HANGS, wait_for

pytestmark = pytest.mark.slow

TINY = ("--batch", "6", "--width", "4", "--depth", "2", "--resolution", "8", "--classes", "5", "--threads", "1")


def spawn(folder: Path, *arguments: str, **options: Any) -> ForkedTesla:
    environment = {**os.environ, "COLUMNS": "140", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return ForkedTesla("bench", *arguments, cwd=folder, env=environment, **options)


def bench(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = spawn(folder, *arguments)
    out, err = process.communicate(timeout=HANGS)
    return process.wait(), out, err


def test_gradient_prints_draws_and_records(tmp_path: Path) -> None:
    modes = ("--mode", "published", "--mode", "exact", "--no-compile")
    code, out, err = bench(tmp_path, "gradient", *TINY, *modes, "--steps", "1", "--steps", "3", "--rounds", "2")
    assert code == 0, err
    for words in ("One iteration: convnet width 4 depth 2", "published", "exact", "of matmul", "Matmul peak"):
        assert words in out
    with Image.open(tmp_path / "bench-gradient.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert {(0x55, 0x55, 0x55), (0x00, 0x72, 0xB2)} <= colours  # a bar or line of either mode
    record = json.loads((tmp_path / "bench-gradient.json").read_text())
    assert record["complete"] and record["machine"]["threads"] == 1
    assert [(row["label"], row["steps"]) for row in record["rows"]] == [
        ("published", 1), ("exact", 1), ("published", 3), ("exact", 3),
    ]  # fmt: skip
    for row in record["rows"]:
        assert len(row["samples"]) >= 2 and min(row["samples"]) > 0
        assert row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        assert row["peak_bytes"] > 0
        rate = row["flops"] / row["seconds"]["median"]
        assert row["of_matmul_peak"] == pytest.approx(rate / max(record["matmul_flops_per_second"].values()))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_breaks_no_cell_whatever_the_terminal(width: int) -> None:
    steps = CASES["quick"].steps
    rows = configurations(varied(CASES["quick"].shape), MODES, (*steps, 100), stores=("checkpoint",))
    measured = GradientBench(rows, 3)
    for row in measured.rows:
        row.samples += [123.4, 124.5, 124.6]
        row.peak_bytes = 12_345_678_901
    console = Console(width=width, file=io.StringIO())
    (table,) = gradient_tables(measured, console)
    console.print(table)
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in out and "12.3 GB" in out and "2 min 04 s" in out and "exact (checkpoint) compiled" in out
    assert ("spread" in out) == (width == 140)


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
    assert record["rows"][0]["samples"] and not record["rows"][2]["samples"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gradient", "--mode", "fast"), "'fast' is not one of"),
        (("gradient", "--network", "convnt"), "Did you mean convnet?"),
        (("gradient", "--device", "tpu"), "compute.device"),
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
    more = {"teachers": ("--epochs", "1"), "evaluate": ("--epochs", "3", "--ipc", "2", "--repeats", "2"), "data": ()}
    code, out, err = bench(tmp_path, stage, *sets, *more[stage])
    assert code == 0, err
    assert "per second" in out and "spread" in out and "!" not in out
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["label"] for row in rows] == [
        "published",
        *(["memory-mapped", "resident"] if stage == "data" else ["ours"]),
    ]
    # 90 % of the digits' training images teach; 2 networks see 20 images in 3 epochs.
    assert len({row["images"] for row in rows}) == 1
    assert rows[0]["images"] == 2 * 20 * 3 if stage == "evaluate" else 1000 < rows[0]["images"] < 1797
    for row in rows:
        assert len(row["samples"]) == 1
        assert row["images_per_second"] == pytest.approx(row["images"] / row["samples"][0])

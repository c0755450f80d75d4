"""Whether plans are right: `tesla plan`, then the same run, at three sizes; planned / run for memory, disk and time.

    python benchmarks/plan.py [--size digits] [--compiled] [--json FILE]

Every run has one thread, which other programs disturb least, and a fresh workspace. Time of a run is processor time:
what its stages took by the journal, times the share of a processor that the process had. Disk is planned as the most at
once, and is here what stays at the end. `--compiled` compiles, with an empty compiler's cache: the plan before the run
has to calculate compiled steps, and a second plan after it finds them in the cache. The folder is synthetic: noise, as
ImageNet is at 64x64 but with fewer and narrower everything.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.events import EvaluationDone, IterationDone, StageFinished
from engine.runs.journal import read_journal
from engine.runs.workspace import Workspace

COMMON = ("compute.threads=1", "evaluate.repeats=2")
SIZES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "digits": ("digits", 10, (
        "teachers.count=4", "distill.iterations=40", "evaluate.every=20", "evaluate.epochs=100",
    )),
    "fashion": ("fashion-mnist", 1, (
        "teachers.count=1", "distill.max_start_epoch=1", "distill.teacher_epochs=1", "distill.iterations=40",
        "evaluate.every=20", "evaluate.epochs=200",
    )),
    "folder": ("folder", 1, (
        "network.width=32", "network.depth=4", "dataset.resolution=64", "teachers.count=1", "teachers.epochs=2",
        "teachers.batch=64", "distill.max_start_epoch=1", "distill.teacher_epochs=1", "distill.steps=10",
        "distill.batch=50", "labels.kind=target", "distill.iterations=8", "evaluate.every=8", "evaluate.epochs=30",
    )),
}  # fmt: skip
"""Dataset, IPC and settings."""
CLASSES, IMAGES = 100, 30
"""Of the synthetic folder; images of a class."""


def main() -> None:
    """Plan, run, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, action="append", help="only these")
    parser.add_argument("--compiled", action="store_true", help="with compute.compile = on and an empty cache")
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    parser.add_argument("--set", action="append", default=[], help="more settings, for all of them")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = {}
    for size in options.size or list(SIZES):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = compare(Path(folder), size, options.compiled, options.set)
        show(size, found[size])
    print(
        f"n = 1; {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def compare(folder: Path, size: str, compiled: bool, more: Sequence[str]) -> dict[str, dict[str, float]]:
    """A plan and its run: quantities by name, each with `planned` and `run`."""
    dataset, ipc, sets = SIZES[size]
    sets = (*COMMON, *sets, f"compute.compile={'on' if compiled else 'off'}", *more)
    if dataset == "folder":
        make_folder(folder / "images", CLASSES, IMAGES, 5, 64)
        sets += (f"dataset.path={folder / 'images'}",)
    environment = {**os.environ, "TESLA_COMPILED": str(folder / "compiled"), "TESLA_CACHE": str(folder / "cache")}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    workspace = folder / "ws"
    tesla(environment, "init", workspace, "--dataset", dataset, *words(sets))
    before, took = tesla(environment, "plan", workspace, "--ipc", ipc, "--json")
    _, ran = tesla(environment, "run", workspace, "--ipc", ipc)
    rows = {"": {"planning_wall": took["wall"], "planning_cpu": took["cpu"]}}
    rows |= joined(json.loads(before), measured(workspace, ran), "")
    if compiled:
        again = workspace.with_name("again")
        tesla(environment, "init", again, "--dataset", dataset, *words(sets))
        after, _ = tesla(environment, "plan", again, "--ipc", ipc, "--json")
        rows |= joined(json.loads(after), measured(workspace, ran), ", cache warm")
    return rows


def make_folder(root: Path, classes: int, train: int, test: int, side: int) -> None:
    """A class-per-folder tree of RGB noise; `train` and `test` images of each class."""
    noise = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(classes):
            place = root / split / f"class{number:03}"
            place.mkdir(parents=True)
            for image in range(count):
                pixels = noise.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{image}.png")


def words(sets: Sequence[str]) -> list[str]:
    """Settings as arguments."""
    return [word for text in sets for word in ("--set", text)]


def tesla(environment: dict[str, str], *arguments: object) -> tuple[str, dict[str, float]]:
    """Run a command; what it printed, and its wall and processor seconds and most resident memory."""
    command = [sys.executable, "-m", "tesla_tui.main", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed.")
        out.seek(0)
        kilobytes = 1 if sys.platform == "darwin" else 1024
        return out.read(), {
            "wall": time.monotonic() - begun,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak": float(usage.ru_maxrss * kilobytes),
        }


def measured(folder: Path, ran: dict[str, float]) -> dict[str, float]:
    """What a run took, from its journal and its files; seconds of processor time."""
    (run,) = Workspace(folder).runs()
    share = min(1.0, ran["cpu"] / ran["wall"])
    events = [entry.event for entry, _ in read_journal(run.journal_file)]
    iterations = [event.seconds for event in events if isinstance(event, IterationDone)]
    evaluations = [event for event in events if isinstance(event, EvaluationDone)]
    stages = {event.stage: event.seconds for event in events if isinstance(event, StageFinished)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    took = {
        "peak": ran["peak"],
        "disk": float(sum(path.stat().st_size for path in files if path.suffix in (".safetensors", ".png"))),
        "teachers": stages.get("teachers", 0.0) * share,
        "iteration": float(np.median(iterations[1:])) * share,
        "compilation": max(0.0, iterations[0] - float(np.median(iterations[1:]))) * share,
        "selection": sum(event.seconds for event in evaluations if event.split == "holdout") * share,
        "test": sum(event.seconds for event in evaluations if event.split == "test") * share,
    }
    took["total"] = took["teachers"] + sum(iterations) * share + took["selection"] + took["test"]
    return took


def joined(plan: dict[str, Any], run: dict[str, float], which: str) -> dict[str, dict[str, float]]:
    """Planned and run side by side."""
    times = {part["name"]: part["seconds"] for part in plan["time"]}
    saved = {use["name"]: use["bytes"] for use in plan["disk"]}
    planned = {
        "peak": plan["peaks"][0]["bytes"],
        "disk": saved["teacher buffer"] + saved["checkpoints"],
        "teachers": times["teachers"],
        "iteration": plan["seconds_per_iteration"],
        "compilation": times.get("compilation", 0.0),
        "selection": times["evaluations that select"],
        "test": times["test"],
        "total": plan["seconds"],
    }
    return {
        name + which: {"planned": planned[name], "run": run[name]} for name in planned if planned[name] or run[name]
    }


def show(size: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    took = rows[""]
    print(f"{size}: the plan took {took['planning_wall']:.0f} s, {took['planning_cpu']:.0f} s of processor time")
    print(f"{'':26}{'planned':>12}{'run':>12}{'planned / run':>16}")
    for name, row in rows.items():
        if not name:
            continue
        scale, unit = (1e6, "MB") if name.startswith(("peak", "disk")) else (1.0, "s")
        ratio = f"{row['planned'] / row['run']:.2f}" if row["run"] else ""
        print(f"{name:26}{row['planned'] / scale:9,.3g} {unit:2}{row['run'] / scale:9,.3g} {unit:2}{ratio:>16}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""The searches behind the rates in engine/settings/presets.toml: every run's accuracy on held-out images, in a JSON.

    python -m benchmarks.presets digits --folder /tmp/searches
    python -m benchmarks.presets --table

A search is the product of some values of some settings, with the others fixed. A run ends before the test: the test
images are never looked at. Resumable: a run that the JSON has is not repeated, and a stopped one resumes.
"""

import argparse
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from engine.events import StageFinished, StageStarted
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import resolve_settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "data" / "presets.json"

Values = dict[str, Any]

DIGITS: Values = {
    # A quarter held out: 359 images, where the default of a tenth has 143, on which one point is 1.4 images.
    "dataset.holdout": 0.25,
    "teachers.count": 20, "teachers.epochs": 40, "teachers.batch": 64,
    "distill.iterations": 200, "distill.steps": 20, "distill.teacher_epochs": 2, "distill.max_start_epoch": 10,
    "distill.lr_images": 100.0, "distill.lr_student_lr": 1e-5, "distill.formation": 1,
    "evaluate.every": 100, "evaluate.epochs": 300,
}  # fmt: skip
FASHION: Values = {
    "network.width": 32, "teachers.count": 20, "teachers.epochs": 5, "teachers.batch": 256, "teachers.seed": 0,
    "distill.iterations": 100, "distill.steps": 20, "distill.teacher_epochs": 2, "distill.max_start_epoch": 3,
    "distill.lr_images": 100.0, "distill.lr_student_lr": 1e-5, "distill.formation": 1,
    "evaluate.every": 50, "evaluate.epochs": 300,
}  # fmt: skip
COMMON: Values = {"evaluate.selection_repeats": 3, "evaluate.baseline": False, "compute.threads": 1}


@dataclass(frozen=True)
class Search:
    """Runs of one dataset and IPC: every combination of the values in `axes`."""

    dataset: str
    ipc: int
    axes: dict[str, tuple[Any, ...]]
    fixed: Values = field(default_factory=dict)
    """Settings that differ from the dataset's in every run."""
    seeds: tuple[int, ...] = (0,)

    def runs(self) -> Iterator[Values]:
        """The settings of every run, the seed included, but not those that all of a dataset's searches share."""
        for seed, *values in product(self.seeds, *self.axes.values()):
            yield {**self.fixed, **dict(zip(self.axes, values, strict=True)), "seed": seed}


LR = "distill.lr_images"
FORMATION = "distill.formation"
STEPS = "distill.steps"
START = "distill.max_start_epoch"
LR_LR = "distill.lr_student_lr"
ITERATIONS = "distill.iterations"

FEW: Values = {ITERATIONS: 100, "evaluate.every": 50}

SEARCHES = [
    Search("digits", 1, {FORMATION: (1,), LR: (10.0, 100.0, 1000.0)}),
    Search("digits", 1, {FORMATION: (2,), LR: (10.0, 100.0)}),
    Search("digits", 10, {FORMATION: (1,), LR: (100.0, 1000.0)}, FEW),
    Search("digits", 10, {FORMATION: (2,), LR: (300.0,)}, FEW),
    Search("digits", 1, {LR: (30.0,), STEPS: (10, 20, 40)}),
    Search("digits", 1, {LR: (30.0,), START: (3, 25)}),
]


def shared(dataset: str) -> Values:
    """The settings of every run of a dataset, where its search does not say otherwise."""
    return {**(DIGITS if dataset == "digits" else FASHION), **COMMON}


def run_name(ipc: int, chosen: Values) -> str:
    """A name for a run: the same for the same settings."""
    return f"t-{ipc}-" + hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:10]


def commit() -> str:
    """The commit of the code, with a plus sign if files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=7", "--dirty=+"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def searched(workspace: Workspace, dataset: str, ipc: int, chosen: Values) -> Values:
    """Run one setting up to its test, and describe what was measured."""
    values = {**shared(dataset), **chosen}
    run = workspace.run(run_name(ipc, chosen))
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    begun = time.monotonic()
    events = drive(workspace, run, workspace.settings(ipc=ipc, overrides=overrides, run=run))
    for event in events:
        if isinstance(event, StageStarted) and event.stage == "distillation":
            begun = time.monotonic()  # the teachers before it are shared by all runs
        elif isinstance(event, StageFinished) and event.stage == "distillation":
            events.close()  # before the test
    seconds = time.monotonic() - begun
    held = {one.iteration: one for one in run.evaluations() if (one.split, one.subject) == ("holdout", "distilled")}
    best = max(held.values(), key=lambda done: done.mean)
    return {
        "dataset": dataset,
        "ipc": ipc,
        "settings": {key: values[key] for key in sorted(values)},
        "chosen": chosen,
        "held_out": round(best.mean, 4),
        "n": len(best.accuracies),
        "images": best.images,
        "curve": {str(at): round(done.mean, 4) for at, done in sorted(held.items())},
        "iterations": max(held),
        "seconds": round(seconds),
        "commit": commit(),
    }


def known(path: Path) -> list[Values]:
    """The runs that a JSON has."""
    rows: list[Values] = json.loads(path.read_text()) if path.exists() else []
    return rows


def search(dataset: str, folder: Path, results: Path) -> None:
    """Do the searches of a dataset that the JSON lacks."""
    place = folder / dataset
    if not (place / "tesla.toml").exists():
        Workspace.create(place, resolve_settings(overrides=[f"dataset.name={dataset}"]), {"dataset.name"})
    workspace = Workspace(place)
    for wanted in SEARCHES:
        for chosen in wanted.runs() if wanted.dataset == dataset else ():
            values = {**shared(dataset), **chosen}
            if any((row["dataset"], row["ipc"], row["settings"]) == (dataset, wanted.ipc, values) for row in known(results)):
                continue
            row = searched(workspace, dataset, wanted.ipc, chosen)
            rows = [*known(results), row]
            part = results.with_suffix(".part")
            part.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
            os.replace(part, results)
            print(f"{100 * row['held_out']:.1f} %  IPC {wanted.ipc}  {chosen}  {row['seconds']} s", flush=True)


def table(results: Path) -> str:
    """The runs of a JSON, the best of every dataset and IPC first."""
    rows = sorted(known(results), key=lambda row: (row["dataset"], row["ipc"], -row["held_out"]))
    lines = []
    for row in rows:
        chosen = ", ".join(f"{key.partition('.')[2] or key} {value}" for key, value in row["chosen"].items())
        words = f"{row['dataset']}  IPC {row['ipc']:<3} {100 * row['held_out']:5.1f} %  {row['seconds']:>5} s  {chosen}"
        lines.append(words)
    return "\n".join(lines)


def main() -> None:
    """Search, or show what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", choices=sorted({one.dataset for one in SEARCHES}))
    parser.add_argument("--folder", type=Path, default=Path("searches"), help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON")
    parser.add_argument("--table", action="store_true", help="show the JSON's runs")
    options = parser.parse_args()
    if options.dataset:
        search(options.dataset, options.folder, options.results)
    if options.table or not options.dataset:
        print(table(options.results))


if __name__ == "__main__":
    main()

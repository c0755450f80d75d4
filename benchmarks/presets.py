"""The searches behind the rates in engine/settings/presets.toml: every run's accuracy on held-out images, in a JSON.

    python -m benchmarks.presets digits --folder /tmp/searches
    python -m benchmarks.presets --table

A search is the product of some values of some settings, with the others fixed. A run ends before the test: the test
images are never looked at. Resumable: a run that the JSON has is not repeated, and a stopped one resumes.
"""

import argparse
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path
from typing import Any

from PIL import Image

from engine.events import StageFinished
from engine.runs.create import plan_data, plan_workspace
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.settings import EffectiveSettings

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
    "network.width": 32, "teachers.count": 8, "teachers.epochs": 5, "teachers.batch": 256, "teachers.seed": 0,
    "distill.iterations": 100, "distill.steps": 20, "distill.teacher_epochs": 2, "distill.max_start_epoch": 3,
    "distill.lr_images": 100.0, "distill.lr_student_lr": 1e-5, "distill.formation": 1,
    "evaluate.every": 100, "evaluate.epochs": 100, "compute.compile": "off",
}  # fmt: skip
COMMON: Values = {"evaluate.selection_repeats": 3, "evaluate.baseline": False, "compute.threads": 1}


FOLDERS = {"folder-300": 300}
"""Folders of pictures, as small as people's own: how many of the first training images of Fashion-MNIST."""

RECORDED = (
    "network.width", "dataset.holdout", "teachers.count", "teachers.epochs", "teachers.batch", "teachers.seed",
    "distill.iterations", "distill.steps", "distill.teacher_epochs", "distill.max_start_epoch", "distill.formation",
    "distill.batch", "distill.lr_images", "distill.lr_student_lr", "distill.student_lr",
    "evaluate.epochs", "evaluate.every", "evaluate.selection_repeats", "compute.threads", "seed",
)  # fmt: skip
"""Settings whose effective values stand in the JSON and tell runs apart."""


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
ITERATIONS = "distill.iterations"

FEW: Values = {ITERATIONS: 100, "evaluate.every": 50}
# Batches of 20 cost a fifth of whole ones; a rate suits both, as each image still gets T / N of the loss.
SHORT: Values = {ITERATIONS: 20, "evaluate.every": 20, "evaluate.epochs": 50, "distill.batch": 20}
LARGE: Values = {ITERATIONS: 60, "evaluate.every": 60, "evaluate.epochs": 100, "distill.batch": 100, START: 20}
SMALL: Values = {ITERATIONS: 40, "evaluate.every": 40, "evaluate.epochs": 100, "teachers.count": 5}

SEARCHES = [
    Search("digits", 1, {FORMATION: (1,), LR: (10.0, 100.0, 1000.0)}),
    Search("digits", 1, {FORMATION: (2,), LR: (10.0, 100.0)}),
    Search("digits", 10, {FORMATION: (1,), LR: (100.0,)}, FEW),
    Search("fashion-mnist", 10, {FORMATION: (2,), LR: (1000.0, 3000.0)}, SHORT),
    # The same number of SGD steps in an evaluation.
    Search("fashion-mnist", 10, {FORMATION: (1,), LR: (1000.0,)}, {**SHORT, "evaluate.epochs": 100}),
    Search("digits", 1, {LR: (30.0,), STEPS: (20, 10)}),
    Search("digits", 10, {LR: (1000.0,)}, {**FEW, "distill.batch": 20}),
    Search("digits", 10, {LR: (100.0,), START: (10, 20)}, {**FEW, "distill.batch": 20}),
    Search("digits", 50, {LR: (100.0, 1000.0)}, LARGE),
    Search("folder-300", 1, {FORMATION: (2, 1)}, SMALL),
]


def shared(dataset: str) -> Values:
    """The settings of every run of a dataset, where its search does not say otherwise. A folder's are its preset's."""
    return {**{"digits": DIGITS, "fashion-mnist": FASHION}.get(dataset, {}), **COMMON}


def make_folder(count: int, place: Path) -> None:
    """Write a folder of pictures, one subfolder per class."""
    source = plan_data("fashion-mnist", []).located.open().train
    for number in range(count):
        kind = place / f"class-{source.labels[number]}"
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.image(number)).save(kind / f"{number:05}.png")


def opened_workspace(dataset: str, folder: Path) -> Workspace:
    """The workspace of a dataset's searches, as `tesla init` makes it."""
    place = folder / dataset
    if not (place / "tesla.toml").exists():
        source = dataset
        if dataset in FOLDERS:
            source = str(folder / f"{dataset}-pictures")
            make_folder(FOLDERS[dataset], Path(source))
        plan = plan_workspace(place, source, [])
        found = run_to_end(plan.data.look())
        return plan.make(found.report if found else None)
    return Workspace(place)


def run_name(ipc: int, chosen: Values) -> str:
    """A name for a run: the same for the same settings."""
    return f"t-{ipc}-" + hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:10]


def commit() -> str:
    """The commit of the code, with a plus sign if files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=7", "--dirty=+"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def effective(workspace: Workspace, dataset: str, ipc: int, chosen: Values) -> EffectiveSettings:
    """The settings of one run."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in {**shared(dataset), **chosen}.items()]
    return workspace.settings(ipc=ipc, overrides=tuple(overrides))


def searched(workspace: Workspace, ipc: int, chosen: Values, settings: EffectiveSettings) -> Run:
    """Do one run up to its test."""
    run = workspace.run(run_name(ipc, chosen))
    events = drive(workspace, run, settings)
    for event in events:
        if isinstance(event, StageFinished) and event.stage == "distillation":
            events.close()  # before the test
    return run


def measured(run: Run, dataset: str) -> Values:
    """What a run measured on the held-out part, by its files."""
    flat, history = run.frozen().flat(), read_history(run)
    held = {one.iteration: one for one in run.evaluations() if (one.split, one.subject) == ("holdout", "distilled")}
    best = max(held.values(), key=lambda done: done.mean)
    return {
        "dataset": dataset,
        "ipc": flat["distill.ipc"],
        "settings": {key: flat[key] for key in RECORDED},
        "held_out": round(best.mean, 4),
        "n": len(best.accuracies),
        "images": best.images,
        "curve": {str(at): round(done.mean, 4) for at, done in sorted(held.items())},
        "seconds": round(history.costs.distillation),
        "device": history.environment["device_name"],
        "torch": history.environment["torch"],
    }


def known(path: Path) -> list[Values]:
    """The runs that a JSON has."""
    rows: list[Values] = json.loads(path.read_text()) if path.exists() else []
    return rows


def search(dataset: str, folder: Path, results: Path) -> None:
    """Do the searches of a dataset that the JSON lacks."""
    workspace = opened_workspace(dataset, folder)
    for wanted in SEARCHES:
        for chosen in wanted.runs() if wanted.dataset == dataset else ():
            settings = effective(workspace, dataset, wanted.ipc, chosen)
            flat = settings.flat()
            which = {"dataset": dataset, "ipc": wanted.ipc, "settings": {key: flat[key] for key in RECORDED}}
            if any(which.items() <= row.items() for row in known(results)):
                continue
            at = commit()
            row = {**measured(searched(workspace, wanted.ipc, chosen, settings), dataset), "commit": at}
            keep(results, [*known(results), row])
            print(f"{100 * row['held_out']:.1f} %  IPC {wanted.ipc}  {chosen}  {row['seconds']} s", flush=True)


def add(folders: list[Path], results: Path) -> None:
    """Add runs of other workspaces, by their folders, as far as the JSON lacks them."""
    for folder in folders:
        run = Run(folder)
        row = measured(run, run.frozen().settings.dataset.name)
        if row not in known(results):
            keep(results, [*known(results), row])


def keep(results: Path, rows: list[Values]) -> None:
    """Write the JSON, a run on a line."""
    part = results.with_suffix(".part")
    part.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    part.replace(results)


def table(results: Path) -> str:
    """The runs of a JSON, the best of every dataset and IPC first, with the settings in which its runs differ."""
    rows = sorted(known(results), key=lambda row: (row["dataset"], row["ipc"], -row["held_out"]))
    lines = []
    for (dataset, ipc), group in groupby(rows, key=lambda row: (row["dataset"], row["ipc"])):
        some = list(group)
        differ = [key for key in RECORDED if len({json.dumps(row["settings"][key]) for row in some}) > 1]
        for row in some:
            words = ", ".join(f"{key.rpartition('.')[2]} {row['settings'][key]}" for key in differ)
            lines.append(f"{dataset}  IPC {ipc:<3} {100 * row['held_out']:5.1f} %  {row['seconds']:>5} s  {words}")
    return "\n".join(lines)


def main() -> None:
    """Search, or show what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", choices=["digits", "fashion-mnist", *FOLDERS])
    parser.add_argument("--folder", type=Path, default=Path("searches"), help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON")
    parser.add_argument("--add", type=Path, nargs="+", default=[], help="folders of other runs to add to the JSON")
    parser.add_argument("--table", action="store_true", help="show the JSON's runs")
    options = parser.parse_args()
    add(options.add, options.results)
    if options.dataset:
        search(options.dataset, options.folder, options.results)
    if options.table or not options.dataset:
        print(table(options.results))


if __name__ == "__main__":
    main()

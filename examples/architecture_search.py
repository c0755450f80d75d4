"""Does a distilled set rank architectures as the whole dataset does? `python examples/architecture_search.py [FOLDER]`

Distils the digits to one image per class, then trains ConvNets of several widths and depths three times: on the
distilled images, on as many random real ones, and on all training images. Prints test accuracies and how well the
ranking by either small set agrees with that by the whole (Spearman's rank correlation). The images were distilled
with one architecture only, width 32 and depth 2. A few minutes on two cores.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine import distil, open_workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.training.evaluation import evaluate_distilled
from engine.training.labels import class_index, hard_labels
from engine.training.real_images import random_real, real_images
from engine.training.task import Task
from engine.training.training_set import SmallSet, TrainingSet, WholeSet

WIDTHS, DEPTHS = (2, 4, 8, 16, 32), (1, 2)
WHOLE_EPOCHS, WHOLE_LR = 60, 0.05
"""The reference must be trained well: at 20 epochs and 0.01 the deeper networks had barely started."""


def accuracy(task: Task, data: TrainingSet, width: int, depth: int) -> float:
    """Mean test accuracy, 0..1, of fresh networks of that size, to the protocol of every evaluation."""
    network = task.settings.network.model_copy(update={"width": width, "depth": depth})
    sized = replace(task, settings=task.settings.model_copy(update={"network": network}))
    repeats = task.settings.evaluate.repeats
    return run_to_end(
        evaluate_distilled(sized, data, iteration=0, split="test", network="convnet", repeats=repeats)
    ).mean


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of ranks, -1..1; equal values share the mean of their ranks."""

    def ranks(values: Sequence[float]) -> list[float]:
        ordered = np.sort(values)
        return [float(np.flatnonzero(ordered == value).mean()) for value in values]

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def main(
    folder: Path, *overrides: str, widths: Iterable[int] = WIDTHS, depths: Iterable[int] = DEPTHS
) -> dict[str, float]:
    """Rank correlation with the whole dataset, of `distilled` and of `random`."""
    workspace = open_workspace(folder, dataset="digits")
    made = distil(workspace, ipc=1, settings=overrides)  # see distil_digits.py for events to show
    settings = workspace.settings(ipc=1, overrides=overrides, run=workspace.run("ipc-1")).settings
    task, _ = run_to_end(open_task(workspace, settings))
    labels = hard_labels(class_index(task.classes, 1), task.classes, task.dtype).to(task.device)
    sets: dict[str, TrainingSet] = {
        "whole": WholeSet(task.train, lr=WHOLE_LR, epochs=WHOLE_EPOCHS),
        "distilled": SmallSet(made.images.to(task.device), labels, made.student_lr),
        "random": SmallSet(real_images(task, random_real(task, 1, "search")), labels, lr=0.01),
    }
    found: dict[str, list[float]] = {name: [] for name in sets}
    print("test accuracy, %   " + "".join(f"{name:>11}" for name in sets))
    for width in widths:
        for depth in depths:
            for name, data in sets.items():
                found[name].append(accuracy(task, data, width, depth))
            print(f"width {width:3}, depth {depth}  " + "".join(f"{100 * found[name][-1]:11.1f}" for name in sets))
    agreement = {name: spearman(found[name], found["whole"]) for name in ("distilled", "random")}
    for name, rho in agreement.items():
        best = int(np.argmax(found[name]))
        lost = 100 * (max(found["whole"]) - found["whole"][best])
        print(f"{name}: rank correlation {rho:.2f}; its first choice is {lost:.1f} points below the best on the whole")
    return agreement


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "search",
        "teachers.count=10", "distill.iterations=200", "evaluate.repeats=2", "compute.compile=off",
    )  # fmt: skip

"""Distil the digits from Python: `python examples/distil_digits.py [FOLDER]`. About a minute on two cores."""

import sys
import tempfile
from pathlib import Path

from engine import DistilledSet, distil, open_workspace
from engine.events import EvaluationDone, Event, IterationDone


def show(event: Event) -> None:
    """Print every 50th iteration, and the accuracies."""
    if isinstance(event, IterationDone) and event.iteration % 50 == 0:
        print(f"iteration {event.iteration}: matching loss {event.loss:.3f}")
    elif isinstance(event, EvaluationDone):
        print(f"{event.subject}, {event.split}: {100 * event.mean:.1f} %")


def main(folder: Path, *settings: str) -> DistilledSet:
    """Run (or resume), and return the images, labels and learning rate as tensors."""
    workspace = open_workspace(folder, dataset="digits")
    return distil(workspace, ipc=1, settings=settings, on_event=show)


if __name__ == "__main__":
    made = main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "digits")
    print(f"{len(made.images)} images {tuple(made.images.shape[1:])}, student_lr {made.student_lr:.4f}")

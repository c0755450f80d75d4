"""Distil the digits with the engine alone: `python examples/distil_digits.py [FOLDER]`. About a minute on two cores."""

import sys
import tempfile
from pathlib import Path

from engine.events import EvaluationDone, IterationDone
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import resolve_settings


def main(folder: Path, *overrides: str) -> dict[str, float]:
    """Run (or resume) and return the test accuracies by subject, 0..1."""
    if not (folder / "tesla.toml").exists():
        Workspace.create(folder, resolve_settings(overrides=["dataset.name=digits"]), {"dataset.name"})
    workspace = Workspace(folder)
    run = workspace.run("ipc-1")
    for event in drive(workspace, run, workspace.settings(ipc=1, overrides=overrides, run=run)):
        if isinstance(event, IterationDone) and event.iteration % 50 == 0:
            print(f"iteration {event.iteration}: matching loss {event.loss:.3f}")
        elif isinstance(event, EvaluationDone):
            print(f"{event.subject}, {event.split}: {100 * event.mean:.1f} %")
    return {result.subject: result.mean for result in run.evaluations() if result.split == "test"}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "digits")

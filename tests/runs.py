"""What tests ask about a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.events import Event, IterationDone, Progress
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings


def digits_workspace(folder: Path) -> Workspace:
    """A new workspace of the digits, in their preset."""
    return Workspace.create(folder, resolve_settings(overrides=["dataset.name=digits"]), {"dataset.name"})


def events(run: Run, *kinds: type[Event]) -> list[Any]:
    """The events of its journal, of these kinds or all."""
    return [entry.event for entry, _ in read_journal(run.journal_file) if not kinds or isinstance(entry.event, kinds)]


def newest(run: Run) -> dict[str, Tensor]:
    """The tensors of its newest checkpoint."""
    return run.load_checkpoint(max(run.checkpoints()))[0]


def assert_same_bits(a: Run, b: Run) -> None:
    assert max(a.checkpoints()) == max(b.checkpoints())
    x, y = newest(a), newest(b)
    assert x.keys() == y.keys()
    assert all(torch.equal(x[name], y[name]) for name in x)
    strip = {"seconds": 0.0}
    results = [[{**vars(r), **strip} for r in run.evaluations()] for run in (a, b)]
    assert results[0] == results[1]


def stop_at_iteration(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, IterationDone) and event.iteration == number


def in_the_middle(stage: str, share: float) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Progress) and event.stage == stage and event.done >= share


def break_run(run: Run) -> None:
    """Empty the settings, and damage the line of the journal that has them too."""
    run.settings_file.write_text("")
    lines = run.journal_file.read_bytes().splitlines(keepends=True)
    run.journal_file.write_bytes(b"".join(line.replace(b"settings", b"sittings") for line in lines))

"""What tests ask about a run."""

from typing import Any

from torch import Tensor

from engine.events import Event
from engine.runs.journal import read_journal
from engine.runs.run import Run


def events(run: Run, *kinds: type[Event]) -> list[Any]:
    """The events of its journal, of these kinds or all."""
    return [entry.event for entry, _ in read_journal(run.journal_file) if not kinds or isinstance(entry.event, kinds)]


def newest(run: Run) -> dict[str, Tensor]:
    """The tensors of its newest checkpoint."""
    return run.load_checkpoint(max(run.checkpoints()))[0]

"""Which checkpoint of a run is its result: the selected one, by the rule of `engine.runs.selection`."""

from contextlib import suppress
from dataclasses import dataclass

from engine.errors import UnreadableFileError
from engine.runs.selection import select
from tesla_tui.render.words import percent
from tesla_tui.watch.feed import RunFeed

SIGN = "◆"
"""Marks the selected checkpoint on curves, time lines and images."""


@dataclass(frozen=True)
class Selected:
    """The selected checkpoint."""

    iteration: int
    held_out: float | None
    """Its held-out accuracy, 0..1; None where nothing is held out, or nothing was measured yet."""
    words: str
    """Why it is this one, with that accuracy."""
    short: str
    """The same where room is short."""


def selected_of(feed: RunFeed | None) -> Selected | None:
    """The selected checkpoint of a run; None while there is none, or while nothing was measured to select it by.

    Where its checkpoints were deleted, what the journal says of them decides.
    """
    if feed is None:
        return None
    view = feed.view
    results = view.held_out()
    holdout = view.settings.get("dataset.holdout", 1) != 0
    kept = set(checkpoints_of(feed)) or {result.iteration for result in (*results, *view.tests())}
    iteration = select(kept, results, holdout=holdout)
    undecided = feed.live and holdout and not results
    if iteration is None or undecided:
        return None
    held_out = next((result.mean for result in results if result.iteration == iteration), None) if holdout else None
    words, short = _why(feed, measured=held_out is not None, holdout=holdout)
    accuracy = "" if held_out is None else f" {percent(held_out)} %"
    return Selected(iteration, held_out, words + accuracy, short + accuracy)


def _why(feed: RunFeed, *, measured: bool, holdout: bool) -> tuple[str, str]:
    if feed.state == "imported":
        return "imported", "imported"
    if feed.view.settings.get("distill.iterations") == 0:
        return ("held-out accuracy", "held-out") if measured else ("the only one", "the only one")
    if measured:
        return "best held-out accuracy", "best held-out"
    return "newest; " + ("held-out accuracy not measured yet" if holdout else "nothing is held out"), "newest"


def checkpoints_of(feed: RunFeed) -> list[int]:
    """Iterations with a checkpoint on disk; none while the folder cannot be read."""
    with suppress(UnreadableFileError, OSError):
        return feed.run.checkpoints()
    return []

"""The screens over a run that grows: what they hold of it has a bound. Objects are counted, not bytes or seconds."""

import gc
from collections import Counter
from functools import partial

import numpy as np
import pytest
from textual.pilot import Pilot

from engine.events import CheckpointSaved, IterationDone, Notice
from engine.runs.journal import JournalWriter
from engine.runs.preview_frames import Frame, frame_path, thin, write_frame
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from tesla_tui.live.widgets import pictures
from tesla_tui.watch import previews, view
from tests.tui.live.conftest import Show, app_of, until

pytestmark = pytest.mark.slow

OURS = ("engine.", "tesla_tui.")


def grow(run: Run, journal: JournalWriter, first: int) -> int:
    """A hundred iterations, each with a notice, a checkpoint and a frame in new colours; the last iteration."""
    for iteration in range(first + 1, first + 101):
        journal.append(
            IterationDone(
                iteration=iteration, iterations=10**6, loss=1 / iteration, student_lr=0.01, gradient_norm=1.0,
                student_lr_gradient=0.0, trajectory=0, start_epoch=0, seconds=0.001,
            )
        )  # fmt: skip
        journal.append(Notice(level="info", message=f"at {iteration}"))
    journal.append(CheckpointSaved(iteration=iteration, path=""))
    pixels = np.random.default_rng(iteration).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    write_frame(frame_path(run.film, iteration), Frame(iteration, pixels, 2, None), lasting=False)
    thin(run.film, ())
    return iteration


def ours() -> Counter[str]:
    """Objects of our own types that are alive."""
    gc.collect()
    # type(), not isinstance(): that would ask the class of every object, and some lazy ones import a module for it.
    names = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    return Counter(name for name in names if name.startswith(OURS))


def has_read(pilot: Pilot[str], iteration: int) -> bool:
    """Whether the window has read the journal up to an iteration."""
    bench = app_of(pilot).bench
    assert bench is not None and bench.context.feed is not None
    return bench.context.feed.view.iteration == iteration


def test_a_window_on_a_growing_run_holds_a_bounded_number_of_objects(
    show: Show, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "MOST_LINES", 150)
    monkeypatch.setattr(previews, "KEPT", 3)
    run = ws.run("soft")
    journal = JournalWriter(run.journal_file)

    async def body(pilot: Pilot[str]) -> None:
        iteration, counted = 6, []
        for number in range(12):
            iteration = grow(run, journal, iteration)
            await until(pilot, partial(has_read, pilot, iteration))
            await pilot.press("2", "3", "4", "5", "6", "1")
            await pilot.pause(0.1)
            if number in (5, 11):
                counted.append(ours())
        before, after = counted
        # The run on screen, and both runs of the workspace in the Runs tab.
        assert after["tesla_tui.watch.log.LogLine"] <= 3 * 150, "lines of the log"
        grown = {name: (before[name], number) for name, number in after.items() if number > before[name] + 3}
        assert not grown, grown
        assert pictures._pair_style.cache_info().maxsize is not None, "styles of pairs of pixels"

    show(body, run="soft")

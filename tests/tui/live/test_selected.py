"""The selected checkpoint on every screen, and the result that a finished run opens on."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from textual.pilot import Pilot

from engine.errors import UnreadableFileError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.tools.exchange.import_images import Wanted, import_images
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.panes.images import ImagesPane
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.header import RunBar
from tesla_tui.live.widgets.pictures import PictureGrid
from tesla_tui.live.widgets.scrubber import Scrubber
from tesla_tui.render.words import plus_minus
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.previews import Film
from tesla_tui.watch.selected import selected_of
from tests.conftest import TINY
from tests.tui.live.conftest import Show, drive_run, screen_text, until

pytestmark = pytest.mark.slow

SIZES = [(60, 18), (80, 24), (120, 40), (200, 50)]
BEST = 3
"""Iteration whose held-out accuracy is made the best one."""


def rewritten(run: Run, where: dict[str, object], **fields: object) -> None:
    """Change the events of a journal that have these fields."""
    lines = [json.loads(line) for line in run.journal_file.read_text().splitlines()]
    for line in lines:
        if where.items() <= line.items():
            line.update(fields)
            del line["crc"]
    run.journal_file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def drive_still_run(ws: Workspace, name: str, *overrides: str) -> None:
    """Of a method that does not iterate."""
    tiny = [one for one in TINY if not one.startswith("distill.iterations")]
    run = ws.run(name)
    run_to_end(drive(ws, run, ws.settings(overrides=(*tiny, *overrides), run=run)))


@pytest.fixture
def best(ws: Workspace) -> Workspace:
    """Its finished run was best before its end."""
    where = {"kind": "EvaluationDone", "split": "holdout", "subject": "distilled", "iteration": BEST}
    rewritten(ws.run("soft"), where, mean=0.99, accuracies=[0.98, 1.0])
    return ws


def drawn_signs(pilot: Pilot[str], chart: str) -> int:
    widget = pilot.app.screen.query_one(chart, Chart)
    rows = [widget.render_line(y).text for y in range(1, widget.size.height)]  # the heading has one, too
    return sum(row.count("◆") for row in rows)


def test_a_finished_run_opens_on_its_selected_checkpoint(show: Show, best: Workspace) -> None:
    frame = Film(best.run("soft")).frame(BEST)
    assert frame is not None

    async def body(pilot: Pilot[str]) -> None:
        screen = pilot.app.screen
        assert np.array_equal(screen.query_one("#overview-grid", PictureGrid).pixels, frame.pixels)
        assert f"iteration {BEST}  ◆ best held-out 99.0 %" in screen_text(pilot)
        for chart in ("#loss", "#accuracy", "#student-lr", "#gradient-norm"):
            assert drawn_signs(pilot, chart) == 1, chart
        await pilot.press("2")
        await pilot.pause(0.2)
        assert np.array_equal(screen.query_one("#image-grid", PictureGrid).pixels, frame.pixels)
        assert f"iteration {BEST}  ◆ best held-out accuracy 99.0 %" in screen_text(pilot)

    show(body, run="soft")


def test_a_key_goes_to_it_from_anywhere(show: Show, best: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        screen, title = pilot.app.screen, f"iteration {BEST}  ◆"
        scrubber = screen.query_one(Scrubber)
        await pilot.press("2", "greater_than_sign")
        await pilot.pause(0.2)
        assert title not in screen_text(pilot)
        track = scrubber.render_line(0).text
        assert track.count("◆") == 1 and track.count("●") == 1
        await pilot.press("b")
        await pilot.pause(0.2)
        assert title in screen_text(pilot) and scrubber.render_line(0).text.count("●") == 0
        for tab in "134":
            await pilot.press("2", "less_than_sign", tab, "b")
            await until(pilot, lambda: screen.query_one(ImagesPane).display and title in screen_text(pilot))
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert isinstance(pilot.app.screen, PictureScreen)
        assert "◆" in pilot.app.screen.query_one(Scrubber).render_line(0).text

    show(body, run="soft", size=(100, 30))


def test_a_large_image_closes_where_it_was_opened(show: Show, best: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "greater_than_sign", "enter")
        await pilot.pause(0.3)
        await pilot.press("escape")
        await pilot.pause(0.2)
        assert "iteration 6  newest" in screen_text(pilot)

    show(body, run="soft")


def test_an_unfinished_run_opens_on_the_newest(show: Show, ws: Workspace) -> None:
    run = ws.run("stopped")
    newest = Film(run)
    newest.look()
    assert selected_of(followed(run)).iteration == 0 != newest.iterations[-1]  # type: ignore[union-attr]

    async def body(pilot: Pilot[str]) -> None:
        assert f"iteration {newest.iterations[-1]}" in screen_text(pilot)
        assert "measured once, at the end" in screen_text(pilot)
        assert "n/a" in screen_text(pilot)  # no driver, so no resident memory
        await pilot.press("b")
        await pilot.pause(0.2)
        assert "iteration 0  ◆ best held-out accuracy" in screen_text(pilot)

    show(body, run="stopped")


def followed(run: Run) -> RunFeed:
    feed = RunFeed(run)
    feed.catch_up()
    return feed


@pytest.mark.parametrize("size", SIZES)
def test_a_finished_run_says_its_result_at_every_size(show: Show, best: Workspace, size: tuple[int, int]) -> None:
    tests = {r.subject: r for r in best.run("soft").evaluations() if r.split == "test"}
    said = {subject: plus_minus(r.mean, r.std, len(r.accuracies)) for subject, r in tests.items()}

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        for name, words in (("distilled", said["distilled"]), ("random", said["random"])):
            assert any(line.strip().startswith(name) and words in line for line in text.split("\n")), (name, text)
        assert "whole data  no run with distill.method=whole" in text
        assert f"◆ {BEST}" in text and "99.0 %" in text
        assert re.search(r"peak[^·]* [MG]B", text)
        assert f"Finished: test accuracy {said['distilled']} %" in text
        images = pilot.app.screen.query_one("#overview-images")
        assert images.display == (size[0] > 60) and all(len(line) <= size[0] for line in text.split("\n"))

    show(body, run="soft", size=size)


def test_the_whole_dataset_stands_beside_it(show: Show, ws: Workspace) -> None:
    drive_still_run(ws, "all", "distill.method=whole", "distill.ipc=2", "evaluate.whole_epochs=2")
    result = next(r for r in ws.run("all").evaluations() if r.subject == "distilled" and r.split == "test")
    words = f"whole data  {plus_minus(result.mean, result.std, len(result.accuracies))}"

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: words in screen_text(pilot))

    show(body, run="soft")
    show(body, run="all")


def test_what_an_older_journal_does_not_say_is_said(show: Show, ws: Workspace) -> None:
    rewritten(ws.run("soft"), {"kind": "RunFinished"}, peak_bytes=None)

    async def body(pilot: Pilot[str]) -> None:
        assert "peak memory not recorded" in screen_text(pilot)

    show(body, run="soft")


def test_a_run_that_holds_nothing_out_is_of_its_newest_checkpoint(show: Show, ws: Workspace) -> None:
    drive_run(ws, "plain", "dataset.holdout=0")

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert text.count("nothing is held out") == 2  # instead of a curve, and beside the checkpoint
        assert "◆ 6 of 6, newest" in text and "iteration 6  ◆ newest" in text and "press e" not in text

    show(body, run="plain")


@pytest.mark.parametrize(("name", "words"), [("drawn", "own draws"), ("theirs", "tesla evaluate")])
def test_what_is_not_iterated_has_images_instead_of_curves(
    show: Show, ws: Workspace, tmp_path: Path, name: str, words: str
) -> None:
    if name == "drawn":
        drive_still_run(ws, name, "distill.method=random")
    else:
        torch.save(torch.randn(10, 1, 8, 8), tmp_path / "i.pt")
        torch.save(torch.arange(10), tmp_path / "l.pt")
        run_to_end(import_images(ws, name, Wanted(tmp_path / "i.pt", tmp_path / "l.pt", "0.03"), TINY))

    async def body(pilot: Pilot[str]) -> None:
        for size in ((120, 40), (80, 24), (60, 18)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.4)
            text = screen_text(pilot)
            assert words in text and "no iterations yet" not in text and "teachers" not in text
            grid = pilot.app.screen.query_one("#overview-grid", PictureGrid)
            assert len(grid.pixels) == 10 and grid.size.width > size[0] - 6
        if name == "theirs":
            assert "not known" in text

    show(body, run=name)


def test_keys_that_need_a_run_are_shown_at_once(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        last = screen_text(pilot).split("\n")[-1]
        assert "b best" in last and "x export" in last

    show(body, run="soft", size=(120, 40))


def test_the_top_line_is_sent_only_when_it_changes(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    render = RunBar.render
    monkeypatch.setattr(RunBar, "render", lambda bar: drawn.append(time.monotonic()) or render(bar))

    async def body(pilot: Pilot[str]) -> None:
        await pilot.pause(0.5)
        before = len(drawn)
        await pilot.pause(1.0)  # some ten ticks
        assert len(drawn) == before
        pilot.app.theme = "tesla-light"
        await pilot.pause(0.5)
        assert len(drawn) > before

    show(body, run="soft")


def test_checkpoints_that_cannot_be_read_now_do_not_end_the_screens(
    show: Show, best: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(run: Run) -> list[int]:
        raise UnreadableFileError("It cannot be read now.", "Try again.", None, run.folder)

    async def body(pilot: Pilot[str]) -> None:
        monkeypatch.setattr(Run, "checkpoints", refused)
        await pilot.press("2", "comma", "b")
        await pilot.pause(0.3)
        assert f"iteration {BEST}  ◆" in screen_text(pilot)  # the journal has it

    show(body, run="soft")

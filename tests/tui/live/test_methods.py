"""Runs of other methods on the live screens, and the form that starts them."""

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Select

from engine.runs.workspace import Workspace
from tests.tui.live.conftest import Show, drive_run, screen_text, until

pytestmark = pytest.mark.slow

DM = ("distill.method=dm", "distill.lr_images=1", "peers.batch_real=16")


def test_the_form_chooses_a_method_and_shows_its_rates(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await pilot.pause(0.3)
        form = pilot.app.screen
        form.query_one("#new-method", Select).value = "dm"
        await pilot.pause(0.1)
        assert form.query_one("#new-name", Input).value == "ipc-1-dm"
        table = form.query_one(DataTable)
        rows = [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]
        assert ["distill.method", "dm", "command line"] in rows
        assert ["distill.lr_images", "1", "method dm"] in rows
        form.query_one("#new-method", Select).value = "mtt"
        form.query_one("#new-gradient", Select).value = "paper"
        await pilot.pause(0.1)
        assert "whole gradient" in screen_text(pilot)
        assert form.query_one("#new-start").disabled

    show(body, run="soft", watch=False, size=(120, 45))


def test_a_run_without_teachers_has_no_such_stage(show: Show, ws: Workspace) -> None:
    drive_run(ws, "dm", *DM)

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert "✓ distillation 6/6" in text and "100 %" in text
        assert "✓ teachers" not in text and "○ teachers" not in text
        await pilot.press("3")
        await until(pilot, lambda: "distill.method = dm, which trains no teachers" in screen_text(pilot))
        await pilot.press("2")
        await until(pilot, lambda: "iteration" in screen_text(pilot))

    show(body, run="dm")


def test_a_selection_is_finished_without_iterations(show: Show, ws: Workspace) -> None:
    drive_run(ws, "herding", "distill.method=herding", "distill.iterations=0")

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert "finished" in text and "100 %" in text and "✓ evaluation" in text
        assert "distillation 0/0" not in text

    show(body, run="herding")

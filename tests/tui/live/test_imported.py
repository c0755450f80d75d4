"""A distilled set that was made elsewhere, on the live screens."""

from pathlib import Path

import pytest
import torch
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.exchange.import_images import Wanted, import_images
from tesla_tui.live.screens.workbench import TABS
from tests.conftest import TINY
from tests.tui.live.conftest import Show, app_of, screen_text

pytestmark = pytest.mark.slow


def test_an_imported_set_is_looked_at_and_not_driven(show: Show, ws: Workspace, tmp_path: Path) -> None:
    torch.save(torch.randn(10, 1, 8, 8), tmp_path / "i.pt")
    torch.save(torch.arange(10), tmp_path / "l.pt")
    run_to_end(import_images(ws, "theirs", Wanted(tmp_path / "i.pt", tmp_path / "l.pt", "0.03"), TINY))

    async def body(pilot: Pilot[str]) -> None:
        assert "imported" in screen_text(pilot)
        for number in range(1, len(TABS) + 1):
            await pilot.press(str(number))
            await pilot.pause(0.2)
            assert "ws › theirs" in screen_text(pilot)
        await pilot.press("1", "space")
        await pilot.pause(0.2)
        bench = app_of(pilot).bench
        assert bench is not None
        assert bench.engine is None
        assert "made elsewhere" in screen_text(pilot)

    show(body, run="theirs", watch=False)

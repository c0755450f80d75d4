"""Pictures that hold several images, on the live screens: as stored, and as networks see them."""

import numpy as np
import torch
from textual.pilot import Pilot

from engine.data.formation import Formation
from engine.runs.preview_frames import Frame
from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.widgets.pictures import PictureGrid
from tesla_tui.watch.previews import decoded_frame
from tests.tui.live.conftest import Show, drive_run, screen_text, until


def test_frames_decode_to_what_the_engine_decodes_to() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    found = decoded_frame(Frame(7, pixels, 2, [[(k, 1.0)] for k in range(6)]), 3)
    stored = torch.from_numpy(pixels).permute(0, 3, 1, 2).double().repeat_interleave(9, dim=0)
    wanted = Formation(3, 12).decode(stored, torch.arange(9).repeat(6)).permute(0, 2, 3, 1)
    assert (found.iteration, found.shown) == (7, 18)
    assert np.abs(found.pixels.astype(float) - wanted.numpy()).max() <= 1
    assert found.top == [[(k, 1.0)] for k in range(6) for _ in range(9)]


def test_a_key_shows_what_networks_see_in_the_grid_and_in_a_picture(show: Show, ws: Workspace) -> None:
    drive_run(ws, "packed", "distill.formation=2", "distill.iterations=2", "evaluate.epochs=1")

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "random, packed 2 x 2 " in screen_text(pilot))
        lines = screen_text(pilot).split("\n")
        bars = [
            line.index("±")
            for line in lines
            for name in ("distilled", "random, packed")
            if line.startswith(f" {name} ")
        ]
        assert len(bars) == 2 and bars[0] == bars[1], lines
        await pilot.press("2", "right", "right", "right")
        await pilot.pause(0.3)
        grid = pilot.app.screen.query_one("#image-grid", PictureGrid)
        assert "each picture holds 2 x 2 smaller ones (d)" in screen_text(pilot)
        assert len(grid.pixels) == 10
        await pilot.press("d")
        await pilot.pause(0.3)
        text = screen_text(pilot)
        assert "as networks see them (d)" in text and "3 1" in text and "3 4" in text
        assert grid.selected == 12
        assert len(grid.pixels) == 40
        await pilot.press("right", "enter")
        await pilot.pause(0.4)
        screen = pilot.app.screen
        assert isinstance(screen, PictureScreen)
        assert "hard label: 3" in screen_text(pilot)
        large = screen.query_one("#picture-large", PictureGrid)
        assert len(large.pixels) == 1
        await pilot.press("d")
        await pilot.pause(0.3)
        assert len(large.pixels) == 4
        await pilot.press("escape")
        await pilot.pause(0.3)
        assert grid.selected == 12
        await pilot.press("d", "c")
        await pilot.pause(0.3)
        assert len(grid.pixels) == 10 and grid.selected == 3

    show(body, run="packed")


def test_the_key_does_nothing_where_a_picture_is_one_image(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "d")
        await pilot.pause(0.3)
        assert "decode" not in screen_text(pilot)
        assert len(pilot.app.screen.query_one("#image-grid", PictureGrid).pixels) == 10

    show(body, run="stopped")

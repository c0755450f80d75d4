"""Sets of many classes with long names, CJK and emoji: what is drawn, at every size."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from textual.geometry import Size
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.widgets.pictures import PictureGrid, layout_for, whole
from tesla_tui.render.contact_sheet import LABEL, _fitted, _font
from tesla_tui.render.grid import resized
from tests.tui.live.conftest import Show, screen_text, until
from tests.tui.live.many import class_names, many_classes, pictures

SIZES = [(60, 18), (80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize("native", [7, 8, 16, 28, 32, 64])
def test_pictures_grow_by_whole_numbers(native: int) -> None:
    for size in (*SIZES, (300, 80)):
        for zoom in range(-3, 6):
            for count in (1, 10, 100):
                side = layout_for(count, native, Size(*size), zoom=zoom).side
                assert side < native or side % native == 0, (size, zoom, count, side)
    image = pictures(1, native)[0]
    grown = np.asarray(resized(image, 3 * native, 3 * native))
    assert (grown == image.repeat(3, 0).repeat(3, 1)).all()
    assert [whole(side, native) for side in (native - 1, native, 2 * native - 1)] == [native - 1, native, native]


def test_real_pixels_may_have_any_size() -> None:
    blocks, real = (layout_for(10, 8, Size(80, 19), real=real).side for real in (False, True))
    assert blocks == 8 and real > 8


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [100, 200])
def test_names_of_many_classes_stay_in_their_columns(
    show: Show, tmp_path: Path, count: int, size: tuple[int, int]
) -> None:
    names = class_names(count)

    async def body(pilot: Pilot[str]) -> None:
        if size[0] >= 120:
            overview = pilot.app.screen.query_one("#overview-grid", PictureGrid)
            hint = f"{overview.layout_now.per_page} of {count}; all: 2"
            assert overview.layout_now.per_page < count and hint in screen_text(pilot)
        await pilot.press("2")
        await pilot.pause(0.3)
        grid = pilot.app.screen.query_one("#image-grid", PictureGrid)
        layout = grid.layout_now
        pages = -(-count // layout.per_page)
        assert pages > 1 and f"page 1/{pages} (pgdn)" in screen_text(pilot).split("\n")[2]
        for row in range(layout.rows):
            strip = grid.render_line(row * layout.height + layout.height - 1)
            assert strip.cell_length == grid.size.width == cell_len(strip.text)
            captions = [segment.text for segment in strip if segment.text.strip()]
            for place, caption in enumerate(captions):  # every one as wide as its picture, and it ends as the name does
                assert cell_len(caption) == layout.side
                assert caption.strip().endswith(names[row * layout.per_row + place].rsplit(maxsplit=1)[-1])
        await pilot.press("right", "enter")
        await pilot.pause(0.4)
        screen = pilot.app.screen
        assert isinstance(screen, PictureScreen)
        labels = [line for line in screen_text(pilot).split("\n") if " %" in line]
        assert [re.split("[━╸─]", label)[0].split()[-1] for label in labels] == [
            "1",
            "2",
            "4",
        ]  # one line each, ends kept

    show(body, workspace=many_classes(tmp_path / "many", names, 32), run="learned", size=size)


def test_names_on_a_contact_sheet_are_cut_in_the_middle() -> None:
    name = "n02085620 a very long name of a class, and then some more of it, " * 40 + "at its end"
    fitted = _fitted(name, LABEL)
    assert _font().getlength(fitted) <= LABEL and fitted.startswith("n0208") and fitted.endswith("end")


def test_previews_that_were_deleted_are_not_promised(show: Show, ws: Workspace) -> None:
    shutil.rmtree(ws.run("soft").film)

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2")
        await until(pilot, lambda: "previews of this run are gone" in screen_text(pilot))
        await pilot.press("p")
        await until(pilot, lambda: "there are no frames" in screen_text(pilot))

    show(body, workspace=ws, run="soft")

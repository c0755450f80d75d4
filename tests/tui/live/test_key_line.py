"""The last line of the screens keeps the keys that lead out, however narrow the terminal is."""

import pytest
from textual.pilot import Pilot

from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.screens.workbench import TABS
from tests.tui.live.conftest import Show, app_of, screen_text

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [(40, 12), (60, 18), (80, 24)])
def test_quit_and_help_are_on_every_tab(show: Show, size: tuple[int, int]) -> None:
    async def body(pilot: Pilot[str]) -> None:
        for number, (name, _) in enumerate(TABS):
            await pilot.press(str(number + 1))
            await pilot.pause()
            line = screen_text(app_of(pilot)).rstrip("\n").splitlines()[-1].rstrip()
            assert "? help" in line and "q quit" in line, f"{name}: {line!r}"
            assert len(line) <= size[0] and line[-1] != "…", f"{name}: {line!r}"

    show(body, run="soft", size=size)


def test_no_tab_hides_a_key_that_works_on_every_tab(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        screen = pilot.app.screen
        everywhere = set(screen._bindings.key_to_bindings) - {"tab", "shift+tab"}
        assert {"b", "space", "q", "1", "6"} <= everywhere
        for pane in screen.query(Pane).results():
            assert not set(pane._bindings.key_to_bindings) & everywhere, pane.id

    show(body, run="soft")


def test_a_click_on_a_key_presses_it(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        line = screen_text(app_of(pilot)).rstrip("\n").splitlines()[-1]
        await pilot.click(offset=(line.index("? help") + 3, 17))
        await pilot.pause()
        assert type(pilot.app.screen).__name__ == "HelpScreen"
        await pilot.press("escape")
        await pilot.click(offset=(line.index("q quit") + 1, 17))
        await pilot.pause()
        assert not pilot.app.is_running

    show(body, run="soft", size=(60, 18))

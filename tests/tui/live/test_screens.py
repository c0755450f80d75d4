"""Every tab and key of the live screens, on real journals of real runs. The overview is in test_overview.py."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.basic import FolderPrompt, HelpScreen, Message
from tesla_tui.live.dialogs.new_run import NewRunScreen
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.panes.images import ImagesPane
from tesla_tui.live.preferences import Preferences
from tesla_tui.live.screens.workbench import TABS, Workbench
from tesla_tui.live.widgets.field import Field
from tesla_tui.live.widgets.pictures import PictureGrid
from tesla_tui.live.widgets.scrubber import Scrubber
from tests.tui.live.conftest import Show, app_of, screen_text, settled, until

pytestmark = pytest.mark.slow

SIZES = [(80, 24), (120, 40), (200, 50), (300, 80), (60, 18)]


@pytest.mark.parametrize("size", SIZES)
def test_every_tab_fits_every_terminal(show: Show, size: tuple[int, int]) -> None:
    async def body(pilot: Pilot[str]) -> None:
        for number, (name, _) in enumerate(TABS, 1):
            await pilot.press(str(number))
            await pilot.pause(0.2)
            screen = pilot.app.screen
            assert not screen.show_vertical_scrollbar and not screen.show_horizontal_scrollbar, name
            for widget in screen.query("Chart, PictureGrid, DataTable, Static, Scrubber, KeyLine, RunBar").results():
                if widget.display and widget.region:
                    assert widget.region.right <= size[0], (name, widget)
        assert all(len(line) <= size[0] for line in screen_text(pilot).split("\n"))

    show(body, run="soft", size=size)


def test_resizing_keeps_every_tab_whole(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        for key in "12":
            await pilot.press(key)
            for size in ((200, 50), (80, 24), (150, 30), (61, 19)):
                await pilot.resize_terminal(*size)
                await pilot.pause(0.1)
                assert "soft" in screen_text(pilot).split("\n")[0]

    show(body, run="soft")


def test_tabs_open_by_mouse(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.click("TabBar", offset=(16, 0))
        await pilot.pause(0.2)
        assert "frame" in screen_text(pilot)

    show(body, run="soft")


def test_images_are_selected_paged_and_named(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2")
        await pilot.pause(0.2)
        grid = pilot.app.screen.query_one("#image-grid", PictureGrid)
        assert len(grid.pixels) == 20 and grid.captions[0] == "0 1" and grid.captions[3] == "1 2"
        await pilot.press("right", "right")
        assert grid.selected == 2
        await pilot.press("down")
        assert grid.selected == 2 + grid.layout_now.per_row
        await pilot.press("up", "left")
        assert grid.selected == 1
        for _ in range(12):
            await pilot.press("plus")
        await pilot.pause(0.1)
        assert grid.layout_now.per_page < 20
        await pilot.press("pagedown")
        await pilot.pause(0.1)
        assert grid.first > 0 and "page 2/" in screen_text(pilot)

    show(body, run="soft", size=(80, 24))


def test_the_scrubber_goes_through_time(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "greater_than_sign")
        await pilot.pause(0.2)
        scrubber = pilot.app.screen.query_one(Scrubber)
        last = scrubber.position
        assert last >= 2
        now = pilot.app.screen.query_one("#image-grid", PictureGrid).pixels
        await pilot.press("comma")
        assert scrubber.position == last - 1
        await pilot.press("less_than_sign")
        await pilot.pause()
        assert scrubber.position == 0 and "iteration 0" in screen_text(pilot)
        first = pilot.app.screen.query_one("#image-grid", PictureGrid).pixels
        assert (first != now).any()
        await pilot.press("full_stop")
        assert scrubber.position == 1
        await pilot.press("greater_than_sign")
        assert scrubber.position == last
        await pilot.click(Scrubber, offset=(3, 0))
        await pilot.pause()
        assert scrubber.position == 0

    show(body, run="soft")


def test_playing_goes_to_the_end_and_stops(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "p")
        await pilot.pause()
        assert "playing" in screen_text(pilot)
        await until(pilot, lambda: "playing" not in screen_text(pilot))
        scrubber = pilot.app.screen.query_one(Scrubber)
        pane = pilot.app.screen.query_one(ImagesPane)
        assert pane.context.film is not None
        assert scrubber.position == len(pane.context.film.iterations) - 1

    show(body, run="soft")


def test_initial_and_now_side_by_side(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "greater_than_sign", "c")
        await pilot.pause(0.3)
        text = screen_text(pilot)
        assert "initial  iteration 0" in text and "now  iteration 6" in text
        screen = pilot.app.screen
        left, right = (screen.query_one(name, PictureGrid) for name in ("#initial-grid", "#image-grid"))
        assert left.pixels.shape == right.pixels.shape and (left.pixels != right.pixels).any()

    show(body, run="soft")


def test_one_image_large_with_its_soft_label_and_history(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "right", "right", "right", "enter")
        await pilot.pause(0.4)
        assert isinstance(pilot.app.screen, PictureScreen)
        text = screen_text(pilot)
        assert "soft label" in text and text.count(" %") == 5
        history = pilot.app.screen.query_one("#picture-history", PictureGrid)
        assert len(history.pixels) >= 3
        await pilot.press("right", "comma", "escape")
        await pilot.pause()
        assert pilot.app.screen.query_one("#image-grid", PictureGrid).selected == 4

    show(body, run="soft")


def test_hard_labels_are_said_to_be_hard(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "enter")
        await pilot.pause(0.4)
        assert "hard label: 0" in screen_text(pilot)

    show(body, run="stopped")


def test_teachers_are_listed_with_their_curves(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("3")
        await pilot.pause(0.3)
        text = screen_text(pilot)
        assert "2/2 trajectories of 2 epochs" in text and "on disk" in text and "training accuracy" in text
        table = pilot.app.screen.query_one("#teachers-table", DataTable)
        assert table.row_count == 2
        await pilot.press("down")
        await pilot.pause()
        assert "teacher 1" in screen_text(pilot)

    show(body, run="soft")


def test_runs_stand_side_by_side_and_open(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("4")
        await until(pilot, lambda: "2 runs" in screen_text(pilot))
        text = screen_text(pilot)
        assert "✓ finished" in text and "■ stopped" in text
        assert "kind=target" in text and "kind=hard" in text and "ipc=2" in text
        await pilot.press("o")
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "› stopped" in screen_text(pilot).split("\n")[0]

    show(body, run="soft", size=(200, 40))


def test_the_log_is_searched_by_words_and_level(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("5")
        await pilot.pause(0.2)
        table = pilot.app.screen.query_one("#log-table", DataTable)
        everything = table.row_count
        assert everything > 10
        await pilot.press("slash", *"checkpoint")
        await pilot.pause(0.1)
        assert 1 <= table.row_count < everything
        assert all("Checkpoint" in str(table.get_row_at(n)[2]) for n in range(table.row_count))
        await pilot.press("enter", "v")
        await pilot.pause(0.1)
        assert table.row_count == 0 and "warnings and errors" in screen_text(pilot)

    show(body, run="soft")


def test_a_line_of_the_log_that_does_not_fit_is_shown_in_full(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("5")
        await pilot.pause(0.2)
        table = pilot.app.screen.query_one("#log-table", DataTable)
        line = str(table.get_row_at(table.cursor_row)[-1])
        assert line.startswith("finished in") and len(line) > 60  # the newest
        shown = " ".join(screen_text(pilot).split("finished in")[-1].split())
        assert " ".join(line.removeprefix("finished in").split()) in shown
        await pilot.press("up", "up", "up", "up", "up")
        await pilot.pause(0.1)
        here = str(table.get_row_at(table.cursor_row)[-1])
        assert len(here) < 30 and screen_text(pilot).split("\n")[-3].strip() != here  # it fits

    show(body, run="soft", size=(72, 24))


def test_settings_tell_value_origin_and_meaning(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("6")
        await pilot.pause(0.2)
        table = pilot.app.screen.query_one("#settings-table", DataTable)
        everything = table.row_count
        await pilot.press("d")
        await pilot.pause()
        assert 0 < table.row_count < everything
        await pilot.press("d", "slash", *"distill.steps", "enter")
        await pilot.pause(0.1)
        assert [str(cell) for cell in table.get_row_at(0)] == ["distill.steps", "4", "command line"]
        assert "matching steps" in screen_text(pilot)

    show(body, run="soft")


def test_help_is_about_where_one_is_and_names_ids(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2", "question_mark")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, HelpScreen)
        assert "images.compare" in screen_text(pilot) and "tui.toml" in pilot.app.screen._preferences
        await pilot.press("escape", "4", "question_mark")
        await pilot.pause(0.2)
        assert "runs.overlay" in screen_text(pilot)

    show(body, run="soft", size=(120, 60))


def test_keys_are_changed_by_id(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("f5")
        await pilot.pause()
        assert "log" in screen_text(pilot).split("matching loss")[1].split("\n")[0]
        assert "f5 log scale" in screen_text(pilot).split("\n")[-1]

    show(body, run="soft", preferences=Preferences(refresh=0.1, keys={"overview.log": "f5"}))


def test_every_theme_draws_and_the_palette_has_everything(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        for _ in range(5):
            await pilot.press("T")
            await pilot.pause(0.1)
            assert "matching loss" in screen_text(pilot)
        commands = [command.title for command in pilot.app.get_system_commands(pilot.app.screen)]
        for wanted in ("Tab: Images", "Start or pause", "Evaluate now", "Export", "New run", "Theme: colour-blind"):
            assert wanted in commands
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        await pilot.press(*"tab: log")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await pilot.pause(0.5)
        assert "all levels" in screen_text(pilot)

    show(body, run="soft")


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light"])
def test_themes_whose_colours_only_a_terminal_knows_are_not_offered(show: Show, theme: str) -> None:
    async def body(pilot: Pilot[str]) -> None:
        assert theme not in pilot.app.available_themes and pilot.app.theme == "tesla-dark"
        assert f"Unknown theme '{theme}'" in " ".join(note.message for note in pilot.app._notifications)
        assert not any(known.ansi for known in pilot.app.available_themes.values())

    show(body, run="soft", preferences=Preferences(refresh=0.1, theme=theme))


def test_no_color_still_shows_everything(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def body(pilot: Pilot[str]) -> None:
        assert "✓ finished" in screen_text(pilot)
        await pilot.press("2")
        await pilot.pause(0.2)
        assert "▀" in screen_text(pilot)

    show(body, run="soft")


def test_a_screenshot_is_an_svg(show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("f2")
        await pilot.pause()

    show(body, run="soft")
    assert [path.read_text()[:4] for path in tmp_path.glob("*.svg")] == ["<svg"]


def test_a_screenshot_that_cannot_be_written_ends_nothing(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)

    async def body(pilot: Pilot[str]) -> None:
        folder.rmdir()
        await pilot.press("f2")
        await pilot.pause()
        (notice,) = pilot.app._notifications
        assert notice.message == "The screenshot could not be saved here: No such file or directory."

    show(body, run="soft")


def test_a_folder_the_system_refuses_is_named_without_words_of_python(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, FolderPrompt))
        pilot.app.screen.query_one(Field).value = "a" * 300
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Message))
        assert "File name too long." in flat(pilot) and "Errno" not in screen_text(pilot)

    show(body, run="soft")


def flat(pilot: Pilot[str]) -> str:
    """What is drawn, without the lines around it and the breaks between words."""
    return " ".join(screen_text(pilot).replace("│", " ").replace("▌", " ").split())


def test_an_empty_workspace_names_the_next_key(show: Show, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    from engine.settings import resolve_settings

    empty = Workspace.create(folder, resolve_settings(), {"dataset.name"})

    async def body(pilot: Pilot[str]) -> None:
        assert "Press n to start one" in screen_text(pilot)
        for key, words in (
            ("2", "No images yet"),
            ("3", "No teachers planned"),
            ("4", "No runs yet"),
            ("6", "distill.method"),
        ):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in screen_text(pilot))  # type: ignore[misc]
        await pilot.press("n")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, NewRunScreen)

    show(body, workspace=empty, watch=False)


def test_the_form_validates_while_one_types(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await pilot.pause(0.3)
        form = pilot.app.screen
        assert "✓ Valid" in screen_text(pilot)
        assert form.query_one("#new-name", Input).value == "ipc-1"
        form.query_one("#new-ipc", Input).value = "3"
        await pilot.pause(0.1)
        assert form.query_one("#new-name", Input).value == "ipc-3"
        form.query_one("#new-overrides", Input).value = "distil.steps=30"
        await pilot.pause(0.1)
        assert "Did you mean `distill.steps`" in screen_text(pilot)
        assert form.query_one("#new-start").disabled
        form.query_one("#new-overrides", Input).value = "distill.steps=33"
        await pilot.pause(0.1)
        assert not form.query_one("#new-start").disabled
        rows = [
            [str(cell) for cell in form.query_one(DataTable).get_row_at(n)]
            for n in range(40)
            if n < form.query_one(DataTable).row_count
        ]
        assert ["distill.steps", "33", "command line"] in rows
        form.query_one("#new-name", Input).value = "../up"
        await pilot.pause(0.1)
        assert "not a valid run name" in screen_text(pilot)
        form.query_one("#new-name", Input).value = "soft"
        await pilot.pause(0.1)
        assert "The run soft already exists" in screen_text(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert form.query_one("#new-ipc", Input).value == "1"  # what it first held
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Workbench)

    show(body, run="soft", watch=False, size=(120, 45))


def test_export_from_the_screen(show: Show, ws: Workspace, tmp_path: Path) -> None:
    to = tmp_path / "out"

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("x")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, FolderPrompt)
        pilot.app.screen.query_one(Input).value = str(to)
        await pilot.press("enter")
        await until(pilot, lambda: (to / "README.md").exists() and isinstance(pilot.app.screen, Workbench))
        await pilot.press("x")
        await pilot.pause(0.2)
        pilot.app.screen.query_one(Input).value = str(to)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Message))  # it exists: said in words
        assert "exists" in screen_text(pilot)

    show(body, run="soft")
    assert len(list(to.rglob("*.png"))) >= 20


def test_a_damaged_frame_is_left_out(show: Show, ws: Workspace) -> None:
    film = ws.run("soft").film
    newest = sorted(film.glob("*.png"))[-1]
    newest.write_bytes(newest.read_bytes()[:200])

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2")
        await pilot.pause(0.3)
        assert "▀" in screen_text(pilot) and "iteration 6" not in screen_text(pilot).split("\n")[2]

    show(body, run="soft")


def test_changed_settings_are_said_and_the_run_is_shown(show: Show, ws: Workspace) -> None:
    ws.toml.write_text(ws.toml.read_text().replace("[distill]", "[distill]\nmomentum = 0.9", 1))

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, Message))
        assert "started with other settings" in screen_text(pilot) and "distill.momentum" in screen_text(pilot)
        await pilot.press("escape")
        await pilot.pause(0.2)
        assert "› stopped" in screen_text(pilot) and not app_of(pilot).bench.driving  # type: ignore[union-attr]

    show(body, run="stopped", watch=False)


def test_pictures_are_laid_out_for_the_room_they_get_when_they_appear(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("2")
        await pilot.pause(0.3)
        pane = pilot.app.screen.query_one(ImagesPane)
        pane.query_one("#images-grids").display = False  # as before the first frame is read
        await pilot.pause(0.1)
        pane.update_view()
        await pilot.pause(0.3)
        assert "page" not in screen_text(pilot)

    show(body, run="stopped", size=(80, 24))

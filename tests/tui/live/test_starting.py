"""Starting without a workspace, the wizard, preferences, and terminals that are none."""

import os
import sys
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Select

from engine.errors import SettingsError
from engine.runs.workspace import Workspace
from tesla_tui.live import graphics
from tesla_tui.live.preferences import load_preferences, preferences_file
from tesla_tui.live.screens.workbench import Workbench
from tesla_tui.live.screens.workspaces import HUB, OWN, WizardScreen, WorkspacesScreen, find_workspaces
from tests.forks import ForkedTesla
from tests.tui.live.conftest import Show, app_of, screen_text, until

pytestmark = pytest.mark.slow


def test_workspaces_below_the_folder_are_listed_and_open(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        assert isinstance(pilot.app.screen, WorkspacesScreen)
        table = pilot.app.screen.query_one(DataTable)
        assert [str(cell) for cell in table.get_row_at(0)][:2] == ["ws", "2"]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Workbench))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, WorkspacesScreen))
        assert app_of(pilot).bench is None

    show(body, workspace=None, folder=ws.folder.parent)


def test_without_any_the_next_key_is_named_and_the_wizard_makes_one(show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    async def body(pilot: Pilot[str]) -> None:
        assert "No workspaces here yet" in screen_text(pilot) and "Press n" in screen_text(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen))
        form = pilot.app.screen
        form.query_one("#wizard-resolution", Input).value = "0"
        await pilot.pause(0.2)
        assert "dataset.resolution" in screen_text(pilot)
        form.query_one("#wizard-resolution", Input).value = "8"
        form.query_one("#wizard-preset", Select).value = "fashion-mnist"
        form.query_one("#wizard-name", Input).value = "first"
        await until(pilot, lambda: "✓" in screen_text(pilot))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(pilot.app.screen, Workbench))
        assert "Press n to start one" in screen_text(pilot)

    show(body, workspace=None, folder=home, watch=False, size=(100, 40))
    settings = Workspace(home / "first").settings().settings
    assert settings.dataset.name == "digits" and settings.dataset.resolution == 8
    assert settings.teachers.count == 10 and settings.network.depth == 3  # the borrowed preset's


def test_the_wizard_refuses_what_cannot_be(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen))
        form = pilot.app.screen
        form.query_one("#wizard-name", Input).value = "ws"
        # However the folder's length wraps it.
        await until(pilot, lambda: "is already a workspace" in " ".join(screen_text(pilot).replace("│", " ").split()))
        form.query_one("#wizard-name", Input).value = "other"
        form.query_one("#wizard-dataset", Select).value = OWN
        await until(pilot, lambda: "Enter where the images are" in screen_text(pilot))
        form.query_one("#wizard-where", Input).value = "/nowhere/at/all"
        await until(pilot, lambda: "no such folder" in screen_text(pilot))
        form.query_one("#wizard-dataset", Select).value = HUB
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, WorkspacesScreen))

    show(body, workspace=None, folder=ws.folder.parent, size=(100, 40))


def test_finding_workspaces_is_bounded(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c" / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "tesla.toml").write_text("")
    (tmp_path / "a" / "tesla.toml").write_text("")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "tesla.toml").write_text("")
    assert [found.folder.name for found in find_workspaces(tmp_path)] == ["a"]


def test_no_terminal_is_exit_code_2_and_names_tesla_run(ws: Workspace) -> None:
    process = ForkedTesla("tui", ws.folder)
    _, err = process.communicate()
    assert process.wait() == 2 and f"run {ws.folder}" in err and "Traceback" not in err


def test_preferences_are_read_checked_and_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_preferences().images == "auto"
    preferences_file().write_text('theme = "high-contrast"\nimages = "sixel"\n[keys]\n"run.pause" = "f9"\n')
    found = load_preferences()
    assert found.theme == "high-contrast" and found.images == "sixel" and found.keys == {"run.pause": "f9"}
    monkeypatch.setenv("TESLA_IMAGES", "blocks")
    assert load_preferences().images == "blocks"
    monkeypatch.setenv("TESLA_IMAGES", "holograms")
    with pytest.raises(SettingsError, match="holograms"):
        load_preferences()
    monkeypatch.delenv("TESLA_IMAGES")
    for bad, words in (("theme = 3", "theme"), ("colour = 'red'", "colour"), ("theme = ", "not valid TOML")):
        preferences_file().write_text(bad)
        with pytest.raises(SettingsError, match=words):
            load_preferences()


def test_pictures_are_blocks_where_nothing_better_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/tmp/x")
    try:
        assert graphics.choose_protocol("auto") == "blocks"
        monkeypatch.delenv("TMUX")
        assert graphics.choose_protocol("auto") == "blocks"  # standard output is no terminal here
    finally:
        graphics.choose_protocol("blocks")


@pytest.mark.parametrize(("protocol", "sign"), [("sixel", b"\x1bPq"), ("kitty", b"\x1b_G")])
def test_real_pixels_are_sent_when_forced(ws: Workspace, tmp_path: Path, protocol: str, sign: bytes) -> None:
    import fcntl
    import pty
    import select
    import struct
    import termios
    import time

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", TESLA_IMAGES=protocol, TESLA_TUI_CONFIG=str(tmp_path / "none"))
        command = ["tui", str(ws.folder), "--run", "soft", "--watch"]
        os.execv(sys.executable, [sys.executable, "-m", "tesla_tui.main", *command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 1200, 800))
    drawn, pressed, until_then = b"", False, time.monotonic() + 240

    def enough() -> bool:
        """Pictures of the tab that was opened; the overview sent its own before."""
        return pressed and (drawn.count(sign) >= 2 if protocol == "kitty" else b"\x1bP0;" in drawn)

    try:
        while time.monotonic() < until_then and not enough():
            if select.select([terminal], [], [], 0.2)[0]:
                drawn += os.read(terminal, 65536)
            elif not pressed and b"matching loss" in drawn:
                os.write(terminal, b"2")
                drawn, pressed = b"", True
        assert enough()
        os.write(terminal, b"q")
        while True:
            try:
                if not os.read(terminal, 65536):
                    break
            except OSError:
                break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_a_broken_run_is_shown_and_hides_no_other(show: Show, ws: Workspace) -> None:
    broken = ws.run("stopped")
    broken.settings_file.write_text("")
    lines = broken.journal_file.read_bytes()
    broken.journal_file.write_bytes(lines.replace(b"settings", b"sittings"))

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, Workbench))
        await pilot.press("4")
        await until(pilot, lambda: "2 runs" in screen_text(pilot))
        assert "soft" in screen_text(pilot) and "stopped" in screen_text(pilot)

    show(body, run="stopped")
    show(body, run="soft")

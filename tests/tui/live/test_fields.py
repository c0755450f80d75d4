"""Typing: through a terminal with keys in one chunk, judged by what is drawn, and the fields of every form."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.basic import FolderPrompt
from tesla_tui.live.dialogs.new_run import NewRunScreen
from tesla_tui.live.screens.workbench import Workbench
from tesla_tui.live.screens.workspaces import WizardScreen, WorkspacesScreen
from tesla_tui.live.widgets.field import Field
from tests.terminal import Terminal
from tests.tui.live.conftest import Show, screen_text, until

pytestmark = pytest.mark.slow

LONG = "distill.steps=30 distill.start_epochs=2 seed=7"


@pytest.fixture
def watched(ws: Workspace) -> list[object]:
    return ["tui", ws.folder, "--run", "soft"]


def opened(words: list[object], tmp_path: Path) -> Terminal:
    return Terminal(*words, config=tmp_path / "none.toml")


def test_keys_in_one_chunk_go_where_the_first_of_them_leads(watched: list[object], tmp_path: Path) -> None:
    with opened(watched, tmp_path) as terminal:
        terminal.wait_for("matching loss")
        terminal.type(b"5/check [q")  # a tab, its search, words with keys of commands in them
        terminal.wait_until(lambda: any(line.lstrip().startswith("check [q") for line in terminal.lines), "the search")
        terminal.wait_for("0 lines")
        assert "Nothing to evaluate" not in terminal.text and terminal.process.poll() is None
        terminal.type(b"\x1b")
        terminal.wait_for("/ to search")
        terminal.wait_until(lambda: "0 lines" not in terminal.text, "all lines")
        terminal.type(b"\x1b[B")  # still in the field: a key of the table does nothing here
        terminal.type(b"x/y\rn12")  # words, back to the table; the form and its first field
        terminal.wait_for("resulting settings")
        terminal.wait_for("ipc-12")
        terminal.type(b"\x1b")
        terminal.wait_until(lambda: "ipc-12" not in terminal.text, "the first value")
        terminal.rest(0.5)  # an escape and a key right behind it would be alt and the key
        terminal.type(b"\x1b")
        terminal.wait_until(lambda: "resulting settings" not in terminal.text, "the table")
        terminal.type(b"q")
        assert terminal.process.wait(60) == 0


def test_bytes_that_are_not_text_are_replaced(watched: list[object], tmp_path: Path) -> None:
    with opened(watched, tmp_path) as terminal:
        terminal.wait_for("matching loss")
        terminal.type(b"\xff\xfe\xe9")  # line noise, where no field is
        terminal.type(b"5/caf\xe9 bar")  # as a terminal set to Latin-1 sends it
        terminal.wait_for("caf\N{REPLACEMENT CHARACTER} bar")
        terminal.type(b"\x15\x1b[200~na\xefve\r\nlines\x1b[201~")
        terminal.wait_for("na\N{REPLACEMENT CHARACTER}ve lines")
        terminal.type(b"\rq")
        assert terminal.process.wait(60) == 0
        terminal.rest(0.2)
        assert "UnicodeDecodeError" not in terminal.text


def test_what_is_no_key_presses_none(watched: list[object], tmp_path: Path) -> None:
    answers = b"\x1b[?62;4c\x1b_Gi=1;OK\x1b\\\x1b]11;rgb:0000/0000/0000\x1b\\\x1bP>|term(1)\x1b\\"
    with opened(watched, tmp_path) as terminal:
        terminal.wait_for("matching loss")
        terminal.type(answers)  # to questions asked before the screens began, over a slow link
        terminal.type(b"\x1b[200~\x1b[31mqueen n\x1b[0m" + b"\x1b[20")  # a paste with an escape in it, its end cut
        terminal.rest(0.3)
        terminal.type(b"1~\x1b[48;24;80;0;0t\x1b[<0;60;15M\x1b[<0;60;15m")  # a click in a terminal of unknown pixels
        terminal.type(b"5/")
        terminal.type(b"\x1b[97;1:1u\x1b[97;1:3u\x1b[98:66;1u\x1b[99;1:2u\x1b[999999999;1u")  # Kitty's keys
        terminal.wait_until(lambda: any(line.split()[:1] == ["abc"] for line in terminal.lines), "the search")
        terminal.type(b"\x15\x1b[200~a\x1b[31mb\x1b[201~")
        terminal.wait_for("a\N{REPLACEMENT CHARACTER}[31mb")
        terminal.type(b"\rq")
        assert terminal.process.wait(60) == 0


def test_text_longer_than_its_field_stays_visible(watched: list[object], tmp_path: Path) -> None:
    with opened(watched, tmp_path) as terminal:
        terminal.wait_for("matching loss")
        terminal.type(b"n" + b"\t" * 5 + LONG.encode())
        terminal.wait_for("start_epochs=2 seed=7")  # the end, where the cursor is
        terminal.wait_for("distill.start_epochs")  # and the table has taken it in
        terminal.type(b"\x1b[H")
        terminal.wait_for("distill.steps=30 distill")
    with Terminal(*watched, size=(60, 18), config=tmp_path / "none.toml") as terminal:
        terminal.wait_for("matching loss")
        terminal.type(b"x")
        terminal.wait_for("/ws/ws-soft ")  # its end, not wrapped


def test_the_export_names_the_folder_it_will_write(show: Show, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, FolderPrompt))
        field = pilot.app.screen.query_one(Field)
        field.value = "../x y"
        await until(pilot, lambda: flat(pilot, str(tmp_path.parent / "x y")))
        field.value = "~no-such-user/x"
        await until(pilot, lambda: flat(pilot, "there is no user of this name"))
        field.value = ""
        await until(pilot, lambda: "Enter a folder" in screen_text(pilot))
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert isinstance(pilot.app.screen, FolderPrompt)
        await pilot.press("escape")  # puts the suggestion back
        await until(pilot, lambda: flat(pilot, "ws-soft"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, Workbench))

    show(body, run="soft")


def test_the_wizard_shows_the_folder_and_judges_in_words(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen))
        form = pilot.app.screen
        name, resolution = (form.query_one(f"#wizard-{name}", Field) for name in ("name", "resolution"))
        name.value = "../x y"
        await until(pilot, lambda: flat(pilot, str(ws.folder.parent.parent / "x y")))
        name.value = "~no-such-user"
        await until(pilot, lambda: flat(pilot, "there is no user of this name"))
        name.value = "n" * 300  # longer than a file system allows
        await until(pilot, lambda: flat(pilot, "File name too long"))
        name.value = "fine"
        resolution.value = "-"
        await until(pilot, lambda: flat(pilot, "must be a whole number of at least 1, not `-`"))
        assert resolution.has_class("-invalid")
        resolution.value = ""
        await until(pilot, lambda: flat(pilot, "✓"))
        assert not resolution.has_class("-invalid")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, WorkspacesScreen))

    show(body, workspace=None, folder=ws.folder.parent, size=(100, 40))


def test_numbers_are_judged_in_words_and_may_be_empty_where_optional(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
        form = pilot.app.screen
        ipc, iterations = (form.query_one(f"#new-{name}", Field) for name in ("ipc", "iterations"))
        for wrong in ("-", "", "1e3", "²", "9" * 5000):
            ipc.value = wrong
            await until(pilot, lambda: flat(pilot, "Images per class must be a whole number of at least 1"))
            assert "invalid literal" not in screen_text(pilot) and ipc.has_class("-invalid")
            ipc.value = "2"
            await until(pilot, lambda: flat(pilot, "✓ Valid"))
        iterations.focus()
        await pilot.press("5", "backspace", "tab")
        await pilot.pause(0.2)
        assert not iterations.has_class("-invalid") and flat(pilot, "✓ Valid")

    show(body, run="soft", watch=False, size=(120, 45))


def test_escape_clears_a_search_and_leaves_it(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("6", "slash", *"steps")
        field = pilot.app.screen.query_one("#settings-search", Input)
        assert field.value == "steps"
        await pilot.press("escape")
        assert field.value == "" and field.has_focus
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen.query_one("#settings-table", DataTable).has_focus
        await pilot.press("slash", *"steps", "enter", "escape")
        await pilot.pause()
        assert field.value == "" and not field.has_focus

    show(body, run="soft")


def test_an_error_in_the_screens_is_told_by_the_exit_code(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        pilot.app.panic("broken")
        assert pilot.app.return_code == 70
        failure = pilot.app.failure  # type: ignore[attr-defined]
        assert "broken" in failure.__notes__[0]  # for the file; Textual would print it

    show(body, run="soft")


def flat(pilot: Pilot[str], words: str) -> bool:
    """Whether it stands in a dialog, however its width wraps it."""
    return words.replace(" ", "") in "".join(screen_text(pilot).replace("│", " ").split())

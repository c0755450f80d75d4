"""What is watched goes away: the run, the workspace, its file system, or permission to read; and it may come back."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from engine.storage.atomic import disk
from tests.faults import Refusing
from tests.runs import break_run
from tests.terminal import Terminal
from tests.tui.live.conftest import Show, app_of, screen_text, until

pytestmark = pytest.mark.slow

TABS = "1 2 3 4 5 6"
SIZES = ((60, 18), (120, 40))


@pytest.fixture(autouse=True)
def own_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test installs ends with it."""
    monkeypatch.setattr(disk, "system", disk.system)


def looked_everywhere(terminal: Terminal, words: str) -> None:
    """Every tab opens and says this, and the keys of a run explain themselves."""
    for tab in TABS.split():
        terminal.type(tab.encode())
        terminal.rest(0.4)
        terminal.wait_for(words)
    for key in (b"b", b"g", b"\x1b", b" ", b"?", b"\x1b", b"n", b"\x1b", b"x"):
        terminal.type(key)
        terminal.rest(0.4)
    for _ in range(3):
        terminal.type(b"\x1b")
        terminal.rest(0.4)
    terminal.type(b"\x11")
    assert terminal.ended() == 0
    assert "Error:" not in terminal.text and "Traceback" not in terminal.text


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("what", ["run", "workspace"])
def test_another_process_deletes_what_is_watched(
    ws: Workspace, tmp_path: Path, what: str, size: tuple[int, int]
) -> None:
    words = ("tui", ws.folder, "--run", "soft", "--watch")
    with Terminal(*words, size=size, config=tmp_path / "none.toml") as terminal:
        terminal.wait_for("finished")
        shutil.rmtree(ws.run("soft").folder if what == "run" else ws.folder)
        terminal.wait_for("✕ gone")
        looked_everywhere(terminal, "✕ gone")


@pytest.mark.skipif(not Path("/bin/umount").exists(), reason="no umount")
def test_the_file_system_goes_away_and_comes_back(made: Path, tmp_path: Path) -> None:
    place, kept = tmp_path / "mount", tmp_path / "kept"
    place.mkdir()
    shutil.copytree(made, kept / "ws")
    mount = ["mount", "--bind", str(kept), str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the administrator can mount")
    try:
        with Terminal("tui", place / "ws", "--run", "soft", "--watch", config=tmp_path / "none.toml") as terminal:
            terminal.wait_for("✓ finished")
            subprocess.run(["umount", "--lazy", str(place)], check=True)
            terminal.wait_for("✕ gone")
            terminal.wait_for("or its disk is away")
            terminal.type(b"6")
            terminal.wait_for("There is no")
            subprocess.run(mount, check=True)
            terminal.wait_for("✓ finished")
            terminal.type(b"1")
            looked_everywhere(terminal, "✓ finished")
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


@pytest.mark.parametrize("how", ["ESTALE", "EIO", "EACCES"])
@pytest.mark.parametrize("call", ["open", "names", "status"])
def test_files_that_cannot_be_read_now_are_told_in_the_line(show: Show, ws: Workspace, how: str, call: str) -> None:
    real = disk.system

    async def body(pilot: Pilot[str]) -> None:
        disk.system = refusing = Refusing(r"/ws/", how, call, times=float("inf"))
        for tab in TABS.split():
            await pilot.press(tab)
            await pilot.pause(0.3)
        await pilot.press("4", "c", "escape", "2", "enter", "escape", "b", "1")
        await until(pilot, lambda: refusing.refused > 0)
        if call == "status":
            await until(pilot, lambda: "cannot be read now" in screen_text(pilot).split("\n")[-2])
        assert app_of(pilot).is_running and app_of(pilot).failure is None
        disk.system = real
        await until(pilot, lambda: "Finished: test accuracy" in screen_text(pilot).split("\n")[-2])

    show(body, run="soft", size=(200, 50))


def test_the_newest_run_is_broken_and_another_can_be_opened(ws: Workspace, tmp_path: Path) -> None:
    newest = max(ws.runs(), key=lambda run: run.last_change)
    healthy = next(run for run in ws.runs() if run.name != newest.name)
    break_run(newest)
    with Terminal("tui", ws.folder, "--watch", size=(120, 40), config=tmp_path / "none.toml") as terminal:
        for words in (f"The newest run is {newest.name}", f"--run {healthy.name}"):
            terminal.wait_until(lambda words=words: words in " ".join(re.split(r"[\s│]+", terminal.text)), words)
        terminal.type(b"\x1b")
        terminal.wait_for("No run is open. Press 4 to choose one.")
        terminal.type(b"4")
        terminal.wait_for(f"━━  {healthy.name}")
        terminal.type(b"q")
        assert terminal.ended() == 0

"""What a command line may leave out: the workspace that the current folder is in, and what `init` asks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]


def tesla(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tesla_tui.main", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_inside_a_workspace_commands_are_about_it(tmp_path: Path) -> None:
    assert tesla("init", "ws", cwd=tmp_path).returncode == 0
    inside = tmp_path / "ws" / "notes" / "today"
    inside.mkdir(parents=True)
    quick = [word for text in TINY for word in ("--set", text)]
    done = tesla("run", *quick, cwd=inside)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("ipc-1 in ../..: 1 image per class (") and first.endswith("--ipc sets another number")
    for words in (["status"], ["show", "--no-images"], ["log"], ["config"], ["doctor"]):
        asked = tesla(*words, cwd=inside)
        assert "No workspace was given" not in asked.stderr, words
    assert tesla("config", cwd=inside).stdout == tesla("config", "../..", cwd=inside).stdout
    assert "--ipc sets" not in tesla("run", "--run", "ipc-1", cwd=inside).stdout


@pytest.mark.parametrize("words", [["status"], ["run", "--ipc", "1"], ["study", "labels"], ["export", "--to", "out"]])
def test_elsewhere_the_workspace_is_asked_for(tmp_path: Path, words: list[str]) -> None:
    done = tesla(*words, cwd=tmp_path)
    assert done.returncode == 2
    command = " ".join(word for word in words if word.isalpha() and word != "out")
    assert "No workspace was given, and the current folder is not in one. Give one, as in:" in done.stderr
    assert done.stderr.rstrip().endswith(f"{command} my-run")
    assert not list(tmp_path.iterdir())


def test_init_asks_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-distilled").mkdir()
    (tmp_path / "digits-distilled" / "mine").touch()
    with Terminal("init", config=tmp_path / "config") as terminal:
        terminal.wait_for("Dataset [digits]:")
        terminal.type(b"\n")
        terminal.wait_for("Folder of the workspace [digits-distilled-2]:")
        terminal.type(b"\n")
        terminal.wait_for("Created digits-distilled-2.")
    assert (tmp_path / "digits-distilled-2" / "tesla.toml").is_file()


def test_init_without_a_terminal_says_how(tmp_path: Path) -> None:
    done = tesla("init", cwd=tmp_path)
    assert done.returncode == 2 and "init my-run --dataset digits" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_terminal_that_cannot_draw_is_named(tmp_path: Path) -> None:
    with Terminal("tui", config=tmp_path / "config", term="dumb", size=(150, 30)) as terminal:
        terminal.wait_for("TERM is dumb")
        assert terminal.ended() == 2
    assert "Run it without one: " in terminal.text and b"\x1b[?1049h" not in terminal.received

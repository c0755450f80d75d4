"""Commands in what the program says can be pasted into a shell, however it was started."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import quoted

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
STARTS = {
    "-m": [sys.executable, "-m", "tesla_tui.main"],
    "-c": [sys.executable, "-c", "import sys; from tesla_tui.main import main; sys.exit(main())"],
    "script": ["bin dir/tesla"],
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of a newcomer, with a script `tesla` in it that no PATH leads to."""
    script = tmp_path / "home" / "bin dir" / "tesla"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom tesla_tui.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return script.parents[1]


def called(home: Path, command: str | list[str]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    shell = isinstance(command, str)
    return subprocess.run(command, cwd=home, env=environment, shell=shell, capture_output=True, text=True)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("name", ["my first rün's"])
def test_what_it_says_works_as_pasted(home: Path, start: list[str], name: str) -> None:
    made = called(home, [*start, "init", name, "--dataset", "digits"])
    assert made.returncode == 0, made.stderr
    command = made.stdout.splitlines()[-1].strip()
    assert shlex.split(command)[-4:] == ["run", name, "--ipc", "1"], made.stdout
    assert ".." not in command
    # The same workspace for a question that takes no time.
    asked = called(home, command.replace(" run ", " status ").removesuffix(" --ipc 1"))
    assert asked.returncode == 0 and "has no runs yet" in asked.stdout, asked.stderr

    # The engine's own words, which do not know how the program was called.
    failed = called(home, [*start, "report", name])
    assert failed.returncode == 2
    hint = failed.stderr.partition("Start one with: ")[2].strip()
    assert shlex.split(hint) == shlex.split(command), failed.stderr
    failed = called(home, [*start, "run", name + " else"])
    assert called(home, failed.stderr.partition("with: ")[2]).returncode == 0, failed.stderr


def test_from_another_folder_the_path_is_whole(home: Path) -> None:
    below = home / "a" / "b"
    below.mkdir(parents=True)
    said = called(below, ["../../bin dir/tesla", "init", "ws"]).stdout
    assert shlex.split(said.splitlines()[-1])[0] == str(home / "bin dir" / "tesla")


@pytest.mark.parametrize("name", ["plain", "two words", "rün's", "\x1b[2J", "a'\\\n\u202e\x9b", os.fsdecode(b"\xff'")])
def test_a_shell_reads_any_name_back_and_a_terminal_sees_only_text(name: str) -> None:
    word = quoted(name)
    assert word.isprintable()
    read = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert read.stdout == os.fsencode(name)

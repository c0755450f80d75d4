"""A short selection of `make torture`: kills, refused calls and power cuts, spread over commands and kinds of files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torture import outside
from tests.torture.cases import STARTED
from tests.torture.processes import traced_python
from tests.torture.trials import Call, Trial

ROOT = Path(__file__).parents[3]
MEASURING = "-m engine.runtime.subprocesses"


def torture(report: Path, *options: str) -> list[dict[str, Any]]:
    """The outcomes of a selection in which nothing was lost."""
    command = [sys.executable, "-m", "tests.torture", "--jobs", "2", "--seed", "1", "--json", str(report), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "0 lost" in done.stdout
    outcomes: list[dict[str, Any]] = json.loads(report.read_text())["outcomes"]
    return outcomes


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_breaks_a_run_loses_nothing(tmp_path: Path) -> None:
    counts = ("--kills", "8", "--clock", "1", "--errors", "4", "--power", "3")
    outcomes = torture(tmp_path / "torture.json", *counts, "--case", "run", "--case", "import", "--case", "export")
    assert sum(bool(outcome["struck"]) for outcome in outcomes) >= 8


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(outside.available()), reason=f"no faults from outside: {outside.available()}")
def test_what_the_system_does_to_a_command_loses_nothing(tmp_path: Path) -> None:
    cases = ("init", "import-images", "export-buffers", "log --csv")
    words = [word for case in cases for word in ("--case", case)]
    outcomes = torture(tmp_path / "torture.json", "--outside", "16", *words)
    struck = [outcome["trial"] for outcome in outcomes if outcome["struck"]]
    assert len(struck) >= 8
    assert len({trial["call"]["name"] for trial in struck}) >= 3
    assert any(trial["how"] == "SIGKILL" for trial in struck)


def test_what_was_struck_is_read_from_the_tracers_record() -> None:
    call = Call("export", "rename", "export", 1)
    refused = '7 rename("/t/a", "/t/b") = -1 EIO (Input/output error) (INJECTED)'
    assert (
        outside.struck(f"7 openat(3) = 4\n{refused}\n7 +++ exited with 1 +++", Trial("outside", call, "EIO")) == refused
    )
    assert outside.struck("7 openat(3) = 4\n7 +++ exited with 0 +++", Trial("outside", call, "EIO")) == ""
    killed = '7 rename("/t/a", "/t/b") = ?\n7 +++ killed by SIGKILL +++'
    assert outside.struck(killed, Trial("outside", call, "SIGKILL")) == '7 rename("/t/a", "/t/b") = ?'


@pytest.mark.parametrize(
    ("who", "traced"), [("worker 0", ["0 -m tesla"]), ("worker 1", ["1 -m tesla"]), ("measuring", [f"8 {MEASURING}"])]
)
def test_the_first_process_of_a_kind_is_traced_and_all_run(tmp_path: Path, who: str, traced: list[str]) -> None:
    tracer, log = tmp_path / "tracer", tmp_path / "log"
    tracer.write_text(f'#!/bin/sh\nshift 2\necho "$RANK $2 $3" >> {log}\nexec echo "$@"\n')
    tracer.chmod(0o755)
    python = traced_python(tmp_path / "python", [str(tracer), "--option"], STARTED[who], "/bin/echo")
    said = []
    for rank, words in (("0", "-m tesla"), ("1", "-m tesla"), ("8", MEASURING), ("8", MEASURING), ("1", "-m tesla")):
        environment = {**os.environ, "RANK": rank}
        said.append(subprocess.run([python, *words.split()], env=environment, capture_output=True, text=True).stdout)
    assert [line.removeprefix("/bin/echo ") for line in said] == [
        "-m tesla\n", "-m tesla\n", f"{MEASURING}\n", f"{MEASURING}\n", "-m tesla\n"
    ]  # fmt: skip
    assert log.read_text().splitlines() == traced


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('AT_FDCWD</t/w>, "ws/a", O_RDONLY) = 3</t/w/ws/a>', "/ws/a"),
        ('AT_FDCWD</t/w>, "/t/w/ws/a", O_RDONLY) = 3</t/w/ws/a>', "/ws/a"),
        ('3</t/w/ws/a>, "text", 4) = 4', "/ws/a"),
        ('"ws/a", "ws/b") = 0', "/ws/a"),
        ('AT_FDCWD</t/w>, "/usr/lib/x.so", O_RDONLY) = 3</usr/lib/x.so>', ""),
        ('1</t/w.printed>, "words", 5) = 5', ""),
    ],
)
def test_calls_are_known_by_the_file_they_are_about(line: str, path: str) -> None:
    assert outside.concerned(line, Path("/t/w")) == path

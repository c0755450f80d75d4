"""Unexpected errors, wherever they happen: one sentence, a traceback in a file, exit code 70."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tests.forks import ROOT
from tests.processes import COMMAND, HANGS, sets, wait_for
from tests.terminal import Terminal

BROKEN = """
import sys
import engine.runs.workspace
from tesla_tui.main import main

def broken(self, folder):
{body}

engine.runs.workspace.Workspace.__init__ = broken
sys.argv = ["tesla", "status", "here"]
sys.exit(main())
"""
"""`tesla status` with these lines in it."""

SERVED = """
import sys
from tesla_tui.main import main
from tesla_tui.web.server import TeslaServer

async def broken(self, request):
    raise LookupError("no page")

TeslaServer.handle_index = broken
sys.argv = {words}
sys.exit(main())
"""
"""`tesla serve` whose page is broken."""

IN_WORKERS = """
import os, sys

if os.environ.get("RANK") in os.environ["BROKEN"].split():
    import engine.session.loop

    def broken(*_):
        raise LookupError("an odd layer")

    engine.session.loop.resumed_or_new_state = broken
"""
"""Python begins with this in every process."""


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """An environment whose logs are in `tmp_path / state`."""
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    return {**os.environ, **home, "COLUMNS": "400"}


def ended(body: str, place: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    code = BROKEN.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.run(
        [sys.executable, "-c", code], env=place, text=True, capture_output=True, timeout=HANGS, check=False
    )


def saved(done: "subprocess.CompletedProcess[str]", count: int = 1) -> str:
    """The text of the file that a sentence names; there is one sentence and no traceback on the screen."""
    assert "Traceback" not in done.stdout + done.stderr and "Aborted" not in done.stderr, done
    named = re.findall(r"The traceback is in (\S+);", done.stderr)
    assert len(named) == count, done.stderr
    text = Path(named[-1]).read_text()
    assert "Traceback (most recent call last)" in text and "command: tesla" in text
    assert Path(named[-1]).stat().st_mode & 0o077 == 0
    return text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('loss')", "KeyError: 'loss'"),
        ("assert folder is None", "AssertionError"),
        ("raise EOFError('Ran out of input')", "EOFError: Ran out of input"),  # the parser would say "Aborted"
        ("raise BrokenPipeError(32, 'Broken pipe')", ""),  # of a pipe that is not the output: a refusal, and no success
        ("return broken(self, folder)", "RecursionError: maximum recursion depth exceeded"),
        ("raise OSError('cannot identify image file')", "OSError: cannot identify image file"),
        ("import nonexistent_library", "ModuleNotFoundError: No module named 'nonexistent_library'"),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd"),
        ("raise ValueError('\\x1b]0;owned\\x07 \\n second line')", "ValueError: "),
        ("raise ExceptionGroup('several', [KeyError(1), OSError(5, 'x')])", "ExceptionGroup: several"),
        (
            "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join(); sys.exit(0)",
            "ZeroDivisionError: division by zero",
        ),
        (
            "import logging\ntry:\n    1 / 0\n"
            "except Exception:\n    logging.getLogger('aiohttp.server').exception('x')\nsys.exit(0)",
            "ZeroDivisionError: division by zero",
        ),
    ],
)
def test_any_error_of_a_command_is_one_sentence_and_a_file(body: str, words: str, place: dict[str, str]) -> None:
    done = ended(body, place)
    if not words:
        assert done.returncode == 1 and done.stderr.startswith("Error: Broken pipe."), done
        return
    assert done.returncode == ExitCode.INTERNAL == 70, done
    assert f"Error: Unexpected error: {words}" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr
    assert words.partition(":")[0] in saved(done)


def test_an_error_in_a_destructor_does_not_spoil_the_result(place: dict[str, str]) -> None:
    done = ended("class A:\n    def __del__(self): raise KeyError('gone')\nA()\nsys.exit(0)", place)
    assert done.returncode == 0
    assert "KeyError" in saved(done)


def test_an_error_among_the_expected_kinds_is_none_of_these(place: dict[str, str], tmp_path: Path) -> None:
    for body, code, words in (
        ('raise RuntimeError("can\'t start new thread")', 1, "no more threads or processes"),
        ("raise OSError(24, 'Too many open files', 'f')", 1, "Too many files are open (f)"),
        ("raise OSError(27, 'File too large', 'f')", 1, "limit on the size of files is reached (f)"),
        (
            "import threading; t = threading.Thread(target=lambda: open('/none')); t.start(); t.join(); sys.exit()",
            1,
            "(/none)",
        ),
        ("sys.exit('a word at the end')", 1, "a word at the end"),
    ):
        done = ended(body, place)
        assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr, done
    assert not (tmp_path / "state").exists()


def test_the_file_goes_where_something_can_be_written(place: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    assert "KeyError" in saved(ended("raise KeyError(1)", place))
    shutil.rmtree(tmp_path / "tmp")
    (tmp_path / "tmp").write_text("no folder")
    done = ended("raise KeyError(1)", {**place, "TMPDIR": "/proc"})
    assert done.returncode == 70 and "Traceback" not in done.stderr
    assert "/tmp/" in done.stderr or "could not be saved" in done.stderr


def test_a_secret_on_the_command_line_stays_out_of_the_file(place: dict[str, str]) -> None:
    code = BROKEN.format(body="    raise KeyError(1)")
    for words in ("'--token', 'tell-no-one-of-it'", "'--token=tell-no-one-of-it'"):
        changed = code.replace('"status", "here"', f'"serve", "here", {words}')
        done = subprocess.run(
            [sys.executable, "-c", changed], env=place, text=True, capture_output=True, timeout=HANGS, check=False
        )
        assert done.returncode == 70 and "tell-no-one" not in saved(done)


def test_an_output_that_takes_no_more(place: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "--version"], env=place, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1 and "disk is full" in done.stderr
    assert "Exception" not in done.stderr and len(done.stderr.splitlines()) == 1
    closed = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *COMMAND, "status", "nowhere"], env=place, check=False)
    assert closed.returncode == 2


@pytest.mark.slow
def test_workers_report_once_and_save_one_file(place: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS)
    folder = Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder
    for ranks in ("1", "0 1"):
        words = ["run", folder, "--run", "r", "--workers", "2", *sets()]
        done = subprocess.run(
            [*COMMAND, *map(str, words)], env={**place, "BROKEN": ranks, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            text=True, capture_output=True, timeout=HANGS, check=False,
        )  # fmt: skip
        assert done.returncode == 70, done
        text = saved(done)
        assert "an odd layer" in text and "worker 1" in text
        assert "Error: Unexpected error: LookupError: an odd layer." in done.stderr


@pytest.mark.slow
def test_an_error_in_the_screens(place: dict[str, str], tmp_path: Path) -> None:
    folder = Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder
    broken = {"tesla_tui.live.screens.workbench.happening": "no function"}
    with Terminal("tui", folder, config=tmp_path / "none.toml", size=(400, 30), env=place, changed=broken) as terminal:
        assert terminal.ended() == 70
        assert "Traceback" not in terminal.text and terminal.text.count("Unexpected error: TypeError") == 1
        named = re.search(r"The traceback is in (\S+);", terminal.text)
        assert named is not None and "workbench.py" in Path(named[1]).read_text()


@pytest.mark.slow
def test_an_error_of_the_engine_behind_the_screens_is_one_file(place: dict[str, str], tmp_path: Path) -> None:
    """That is named again after the screens; the run's folder has none."""
    folder = Workspace.create(tmp_path / "ws", resolve_settings(overrides=["dataset.name=digits"]), set()).folder
    broken = {"engine.session.loop.resumed_or_new_state": "no function"}
    words = ["tui", folder, "--run", "r", *sets()]
    with Terminal(*words, config=tmp_path / "none.toml", size=(400, 30), env=place, changed=broken) as terminal:
        terminal.wait_for("This is an unexpected error")
        terminal.type(b"q")
        assert terminal.ended() == 70
        assert terminal.text.count("Unexpected error: TypeError") == 1
        named = re.search(r"The traceback is in (\S+);", terminal.text)
    files = [path for path in tmp_path.rglob("*crash*") if path.is_file()]
    assert named is not None and [Path(named[1])] == files
    assert files[0].read_text().count("Traceback (most recent call last)") == 1
    assert "loop.py" in files[0].read_text()


@pytest.mark.slow
def test_an_error_in_a_request_does_not_end_the_server_and_is_its_exit_code(
    place: dict[str, str], tmp_path: Path
) -> None:
    folder = Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = SERVED.format(words=["tesla", "serve", str(folder), "--port", str(port)])
    with subprocess.Popen(
        [sys.executable, "-c", code], env=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        try:
            wait_for(lambda: answer(port, "/") is not None, server)
            assert answer(port, "/") == 500 and answer(port, "/static/js/textual.js") == 200
        finally:
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=HANGS)
    assert server.returncode == 70 and "Serving" in out and "Traceback" not in out
    assert set(re.findall("Unexpected error: .*?[.]", err)) == {"Unexpected error: LookupError: no page."}
    assert "Traceback" not in err and "handle_index" not in err


def answer(port: int, path: str) -> int | None:
    """The status of a page; None while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return None


def test_an_error_in_a_process_that_measures(place: dict[str, str], tmp_path: Path) -> None:
    folder = Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder
    text = (folder / "tesla.toml").read_text()
    changed = re.sub(r"(?m)^(\[evaluate\].*)$", r"\1\nnetworks = ['stranger:net']", text)
    (folder / "tesla.toml").write_text(changed)
    assert changed != text
    (tmp_path / "stranger.py").write_text("raise SystemExit('it was run')")
    words = ["plan", folder, "--ipc", 1, "--seconds", 1, *sets()]
    environment = {**place, "PYTHONPATH": f"{tmp_path}:{ROOT}", "TESLA_CONFIG": str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, *map(str, words)], env=environment, text=True, capture_output=True, timeout=HANGS, check=False
    )
    assert done.returncode == 2 and "Measuring" not in done.stderr, done
    assert "The settings ask for the network stranger:net" in done.stderr and "trust stranger:net" in done.stderr

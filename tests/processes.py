"""Commands as processes of their own, and waiting for what they do, on a machine of any speed.

No test may depend on how fast something is: whatever has to be met in the middle never ends by itself (`NEVER`) or
waits at a gate (tests/engine/faulty.py), and seconds are only bounds against hanging.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from engine.runs.heartbeat import read_heartbeat
from engine.runs.run import Run
from engine.storage.temp_files import temp_name
from tesla_tui.main import main
from tests.conftest import TINY
from tests.forks import ForkedTesla

COMMAND = [sys.executable, "-m", "tesla_tui.main"]
"""A process from its first line on; `ForkedTesla` is the same without loading PyTorch (two seconds of a processor)."""
NEVER = 10**6
"""Epochs or iterations that no test lives to see."""
HANGS = 240.0
"""Seconds after which something is taken to hang."""


def sets(*changes: str) -> list[str]:
    """Options for tiny settings and these changes."""
    return [word for text in (*TINY, *changes) for word in ("--set", text)]


def wait_for(
    condition: Callable[[], object], process: "ForkedTesla | Popen[str] | Popen[bytes]", seconds: float = HANGS
) -> None:
    """Wait until something holds, while the process that is to bring it about lives."""
    until = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None and not condition():
            raise AssertionError(f"it ended before: {process.returncode}, {process.communicate()}")
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


def in_stage(run: Run, stage: str, detail: str = "") -> Callable[[], bool]:
    """A condition: the run's driver says that it is there."""

    def there() -> bool:
        beat = read_heartbeat(run.heartbeat_file)
        return beat is not None and beat.stage == stage and detail in beat.detail

    return there


def tesla_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`call("run", "ws")` runs a command in this process: its exit code, and all its output, without a traceback."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tesla", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(code), captured.out + captured.err

    return call


def left_by_a_dead_writer(target: Path) -> Path:
    """A temporary file beside `target`, of a process that has ended."""
    ended = Popen(["true"])
    ended.wait()
    left = target.with_name(temp_name(target.name).replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    left.write_text("half")
    return left

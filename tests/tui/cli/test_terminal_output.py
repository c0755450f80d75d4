"""What commands leave on a terminal: the names they can be called by, and no half-erased progress."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runs.workspace import Workspace
from tests.processes import NEVER, sets
from tests.terminal import Terminal


@pytest.mark.slow
def test_usage_calls_the_program_as_the_shell_here_can(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "tesla"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom tesla_tui.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    for path, called in (("/nowhere", "bin/tesla"), (str(script.parent), "tesla")):
        ended = subprocess.run(
            [script, "run", "--nope"], capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "PATH": path, "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip
        assert ended.returncode == 2
        assert f"Usage: {called} run" in ended.stderr
        assert f"Try '{called} run -h'" in ended.stderr


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_progress_behind(workspace: Workspace, tmp_path: Path) -> None:
    words = ["run", workspace.folder, "--ipc", 1, *sets(f"distill.iterations={NEVER}", f"evaluate.every={NEVER}")]
    changed: dict[str, object] = {"tesla_tui.cli.follow.WORTH": 0.0}
    with Terminal(*words, size=(80, 60), config=tmp_path / "none", changed=changed) as terminal:
        terminal.wait_for("Distilling")
        terminal.rest()
        terminal.type(b"\x03")
        assert terminal.ended() == 130
        left = [line for line in terminal.lines if "Distilling" in line or "━" in line or "^C" in line]
        assert "Stopped" in terminal.text and left == [], terminal.text
        assert b"\a" not in terminal.received  # whoever pressed the key is looking


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alert", "fails", "sent"),
    [("bell", False, b"\a"), ("osc9", False, b"\x1b]9;ipc-1 is finished\a"), ("osc9", True, b" failed\a"),
     ("off", False, b"")],
)  # fmt: skip
def test_the_end_of_long_work_is_told(
    workspace: Workspace, tmp_path: Path, alert: str, fails: bool, sent: bytes
) -> None:
    config = tmp_path / "tui.toml"
    config.write_text(f'alert = "{alert}"\n')
    changed: dict[str, object] = {"tesla_tui.cli.follow.WORTH": 0.0}
    if fails:
        changed["tesla_tui.render.display.STAGES"] = None
    words = ["run", workspace.folder, "--ipc", 1, *sets()]
    with Terminal(*words, size=(80, 60), config=config, changed=changed) as terminal:
        assert (terminal.ended() != 0) == fails
        bells = [part for part in (b"\a", b"\x1b]9;") if part in terminal.received]
        assert sent in terminal.received and len(bells) == (0 if not sent else 2 if alert == "osc9" else 1)


@pytest.mark.slow
def test_short_work_rings_no_bell(workspace: Workspace, tmp_path: Path) -> None:
    with Terminal("run", workspace.folder, "--ipc", 1, *sets(), size=(80, 60), config=tmp_path / "none") as terminal:
        assert terminal.ended() == 0
        assert b"\a" not in terminal.received

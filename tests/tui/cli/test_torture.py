"""A short selection of `make torture`: kills, refused calls and power cuts, spread over kinds of files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_what_breaks_a_run_loses_nothing(tmp_path: Path) -> None:
    report = tmp_path / "torture.json"
    command = [
        sys.executable, "-m", "tests.torture", "--kills", "8", "--clock", "1", "--errors", "4", "--power", "3",
        "--jobs", "2", "--seed", "1", "--json", str(report),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    outcomes = json.loads(report.read_text())["outcomes"]
    assert sum(outcome["struck"] for outcome in outcomes) >= 8
    assert "0 lost" in done.stdout

"""A long run stays flat: a short soak, and the bounds of what a run leaves behind."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import Event
from engine.runs import preview_frames as film
from engine.runs import preview_writer as preview
from engine.runs.run import Run

pytestmark = pytest.mark.slow

RunIt = Callable[..., Run]


def test_a_short_soak_grows_nowhere(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "soak.py"
    command = [sys.executable, str(script), str(tmp_path / "soak"), "--iterations", "300", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    found = json.loads(done.stdout)
    assert found["grown"] == [], found
    assert done.returncode == 0
    assert found["iterations"] == 300
    assert found["skipped"] == 0
    assert found["checkpoints_saved"] == 101
    assert 200 < found["journal_bytes_per_iteration"] < 500


def test_the_film_is_bounded_between_checkpoints_too(tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "MOST_FRAMES", 8)
    monkeypatch.setattr(preview, "SOONEST", 0.0)
    monkeypatch.setattr(preview, "RESTING", 0)
    most = 0

    def watch(event: Event) -> bool:
        nonlocal most
        most = max(most, len(list(Path(run_folder, "previews").glob("*.png"))))
        return False

    run_folder = str(tiny_run("r", "distill.iterations=1").folder)
    tiny_run("r", "distill.iterations=40", "distill.checkpoint_every=1000", "evaluate.every=1000", until=watch)
    assert 4 < most <= 9

"""The scripts in benchmarks/ still run: at the smallest size, from another folder, as their own text says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import HANGS

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("evaluation", "--size digits --epochs 1 --repeats 1 --rounds 1 --side eager", "eager"),
        ("decoding", "--images 300 --files 2 --side 16", "images/s"),
        ("plan", "--size digits --set distill.iterations=2 --set evaluate.epochs=2", "planned / run"),
        ("gradient_memory", "--width 16 --batch 2 --steps 1", "checkpoint"),
    ],
)
def test_benchmark_runs(name: str, options: str, said: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout

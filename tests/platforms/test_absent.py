"""What other systems lack: processes without it do a real run, or refuse in one sentence. See docs/platforms.md."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runs.workspace import Workspace
from tests.processes import HANGS, NEVER, sets
from tests.runs import digits_workspace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = sets("teachers.count=1", "distill.iterations=4", "distill.checkpoint_every=2", "evaluate.every=2",
             "evaluate.epochs=2", "evaluate.repeats=1")  # fmt: skip
CHOSEN = [word for text in (
    "distill.method=random", "evaluate.epochs=1", "evaluate.repeats=1", "network.width=4", "compute.threads=1",
    "compute.compile=off",
) for word in ("--set", text)]  # fmt: skip
"""Of a run in one second: real images are chosen and measured."""

Ended = subprocess.CompletedProcess[str]


def python_without(what: str, *words: object, **variables: str) -> Ended:
    """A new Python on a machine that lacks something; its end."""
    path = os.pathsep.join(map(str, (ROOT / "tests" / "platforms" / "without", ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "TESLA_TEST_WITHOUT": what, **variables}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)


def tesla_without(what: str, *words: object, **variables: str) -> Ended:
    """A command of `tesla` that must succeed there."""
    ended = python_without(what, "-m", "tesla_tui.main", *words, **variables)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, (words, ended.stdout, ended.stderr)
    return ended


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("platforms") / "ws"
    return digits_workspace(folder).folder


@pytest.mark.parametrize("what", ["sysconf affinity getloadavg", "fallocate", "proc", "glibc", "resource"])
def test_a_run_needs_nothing_that_only_linux_has(prepared: Path, tmp_path: Path, what: str) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "ws"))
    tesla_without(what, "run", folder, "--ipc", 1, *CHOSEN)
    run = Workspace(folder).run("ipc-1")
    assert [found.split for found in run.evaluations()].count("test") >= 1
    assert not (run.folder / "driver.json").exists() or json.loads((run.folder / "driver.json").read_text())["released"]


def test_a_mac_goes_from_init_to_export(tmp_path: Path) -> None:
    folder, synced = tmp_path / "ws", tmp_path / "synced"

    def tesla(*words: object) -> str:
        return tesla_without("mac", *words, TESLA_TEST_SYNCED=str(synced)).stdout

    tesla("init", folder, "--dataset", "digits")
    assert "Test accuracy" in tesla("run", folder, "--ipc", 1, *SMALL)
    run = Workspace(folder).run("ipc-1")
    assert max(run.checkpoints()) == 4
    assert len(synced.read_text().splitlines()) > 10, "files reach the drive by full syncs"
    started = json.loads(run.journal_file.read_text().splitlines()[0])
    environment = started.get("environment") or started["event"]["environment"]
    assert environment["device_name"] == "Apple M2 Pro" and environment["platform"].startswith("macOS")

    endless = sets(f"distill.iterations={NEVER}", "distill.checkpoint_every=1000", "evaluate.every=1000")
    tesla("run", folder, "--run", "long", "--ipc", 1, "--detach", *endless)
    try:
        assert "running" in tesla("status", folder)
        screen = python_without("mac", "-m", "tests.platforms.pilot", folder, "long")
        assert screen.returncode == 0, screen.stderr
        for words in ("CPU", "driver", "GPU shares this memory", "READ-ONLY"):
            assert words in screen.stdout, screen.stdout
    finally:
        tesla("stop", folder, "--run", "long")
    assert "stopped" in tesla("status", folder)

    tesla("evaluate", folder, "--run", "ipc-1", "--set", "evaluate.repeats=1", "--set", "evaluate.epochs=1")
    tesla("export", folder, "--run", "ipc-1", "--to", tmp_path / "out")
    assert (tmp_path / "out" / "distilled.safetensors").exists()
    found = tesla("doctor", folder)
    assert "No problems found." in found and "not glibc" in found


@pytest.mark.parametrize("start", [["-m", "tesla_tui.main", "--help"], ["-c", "import tesla_tui"]])
def test_windows_is_refused_in_a_sentence(start: list[str]) -> None:
    ended = python_without("windows", *start)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1 and "WSL" in ended.stderr


def test_the_engine_cannot_be_imported_on_windows() -> None:
    ended = python_without("windows", "-c", "import engine")
    assert ended.returncode == 1 and "ImportError: The engine runs on Linux and macOS" in ended.stderr

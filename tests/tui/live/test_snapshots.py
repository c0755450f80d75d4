"""How the screens look, compared with pictures that somebody looked at. `pytest --snapshot-update` makes them anew.

They show a recorded run (tests/data), a machine that stands still and UTC, so that no number depends on where they are
made.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.film import frame_iterations, frame_path
from engine.settings import resolve_settings
from engine.workspace import Workspace
from tesla_tui.live.app import TeslaApp
from tesla_tui.live.screens.error import ErrorScreen
from tesla_tui.preferences import Preferences
from tesla_tui.watch.devices import Devices, Gpu, Processor, Sample
from tests.tui.live.conftest import settled, until

RECORDED = Path(__file__).parents[2] / "data" / "recorded"

Snap = Callable[..., bool]


class StillDevices(Devices):
    """A machine where nothing happens."""

    def sample(self, pid: int | None = None) -> Sample:
        gpu = Gpu(0, "NVIDIA A100-SXM4-80GB", 31 * 10**9, 80 * 10**9, 97, 61, 285.0, 400.0)
        self.history = {0: [0.1, 0.2, 0.3, 0.4, 0.39]}  # type: ignore[dict-item]
        return Sample((gpu,), Processor(16, 42.0, 6.5, 21 * 10**9, 64 * 10**9, None))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def recorded(tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))


def app_for(workspace: Workspace) -> TeslaApp:
    return TeslaApp(Preferences(refresh=30), workspace, watch=True, devices=StillDevices(nvml=object()))


def pressing(*keys: str) -> Callable[[Pilot[str]], object]:
    async def press(pilot: Pilot[str]) -> None:
        await settled(pilot)
        await until(pilot, lambda: not pilot.app.bench.context.loading)  # type: ignore[attr-defined]
        await pilot.press(*keys)
        await pilot.pause(0.4)
        await pilot.pause()

    return press


@pytest.mark.parametrize(
    ("name", "size", "keys"),
    [
        ("compact", (80, 24), ()),
        ("overview", (120, 40), ()),
        ("narrow", (60, 18), ()),
        ("images", (80, 24), ("2", "right", "c")),
        ("picture", (100, 30), ("2", "right", "enter")),
        ("log", (100, 30), ("5",)),
    ],
)
def test_screens(
    snap_compare: Snap, recorded: Workspace, name: str, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    assert snap_compare(app_for(recorded), terminal_size=size, run_before=pressing(*keys))


def test_empty(snap_compare: Snap, tmp_path: Path) -> None:
    empty = Workspace.create(tmp_path / "empty", resolve_settings(), {"dataset.name"})
    assert snap_compare(app_for(empty), terminal_size=(80, 24), run_before=pressing())


def test_attached(snap_compare: Snap, recorded: Workspace) -> None:
    run = recorded.run("learned")
    lines = run.journal_file.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if '"iteration": 33' in line)
    run.journal_file.write_text("".join(lines[:cut]))
    for frame in frame_iterations(run.film):
        if frame > 33:
            frame_path(run.film, frame).unlink()
    now = time.time()
    pulse = {
        "pid": 4711,
        "host": "gpu-box",
        "beat": now,
        "moved": now,
        "stage": "distillation",
        "done": 32.5,
        "total": 60,
    }
    run.pulse_file.write_text(json.dumps(pulse))
    (run.folder / "driver.json").write_text(json.dumps({"pid": 4711, "host": "gpu-box", "since": now - 7205}))
    assert snap_compare(app_for(recorded), terminal_size=(120, 40), run_before=pressing())


def test_error(snap_compare: Snap, recorded: Workspace) -> None:
    async def fail(pilot: Pilot[str]) -> None:
        await settled(pilot)
        message = "The disk is full (checkpoints/0000060.safetensors)."
        hint = "Free some room and press r; what was saved is intact."
        pilot.app.push_screen(ErrorScreen(recorded.run("learned"), message=message, hint=hint, report=None))
        await pilot.pause(0.3)

    assert snap_compare(app_for(recorded), terminal_size=(80, 24), run_before=fail)

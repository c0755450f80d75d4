"""How the screens look, compared with pictures that somebody looked at; `UPDATE_SNAPSHOTS=1 pytest` makes them anew.

They show a recorded run (tests/data), a machine that stands still and UTC, so that no number depends on where they are
made.
"""

import asyncio
import difflib
import html
import json
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.runs.liveness import liveness
from engine.runs.preview_frames import frame_iterations, frame_path
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tesla_tui.live.app import TeslaApp
from tesla_tui.live.dialogs.error import ErrorScreen
from tesla_tui.live.preferences import Preferences
from tesla_tui.watch.devices import Devices, Processor, Sample
from tesla_tui.watch.nvml import Gpu
from tesla_tui.watch.run_gpus import NOT_DRIVEN, Use
from tests.tui.live.conftest import settled

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parents[2] / "data" / "recorded"

Prepare = Callable[[Pilot[str]], Awaitable[None]]
PICTURES = Path(__file__).with_name("snapshots")


class StillDevices(Devices):
    """A machine where nothing happens."""

    def sample(self, use: Use = NOT_DRIVEN) -> Sample:
        gpu = Gpu(0, "NVIDIA A100-SXM4-80GB", 31 * 10**9, 80 * 10**9, 97, 61, 285.0, 400.0, ours=True)
        self.history = {("0", "memory"): deque([0.1, 0.2, 0.3, 0.4, 0.39])}
        return Sample((gpu,), Processor(16, 42.0, 6.5, 21 * 10**9, 64 * 10**9, None))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("tesla_tui.live.panes.log.today_is", lambda: "20261123")  # when the run was recorded
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def recorded(tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))


def app_for(workspace: Workspace, *, watch: bool = True) -> TeslaApp:
    return TeslaApp(Preferences(refresh=30), workspace, watch=watch, devices=StillDevices(nvml=object()))


def compare(app: TeslaApp, name: str, size: tuple[int, int], prepare: Prepare) -> None:
    """The screen as SVG against the picture of that name."""

    async def draw() -> str:
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            await prepare(pilot)
            await pilot.pause(0.4)
            return app.export_screenshot(simplify=True)

    drawn = re.sub(r"terminal-\d+", "terminal", asyncio.run(draw()))
    path = PICTURES / f"{name}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawn)
    if drawn != path.read_text():
        actual = Path(tempfile.gettempdir()) / f"tesla-{name}-actual.svg"
        actual.write_text(drawn)
        before, now = (visible(text) for text in (path.read_text(), drawn))
        lines = "\n".join(difflib.unified_diff(before, now, "expected", "actual", lineterm="", n=0))
        raise AssertionError(
            f"{name} looks different; compare {path} with {actual}.\n{lines or 'Only colours differ.'}"
        )


def visible(svg: str) -> list[str]:
    """The texts in a picture, in order."""
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


async def nothing(pilot: Pilot[str]) -> None:
    """As it opens."""


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
def test_screens(recorded: Workspace, name: str, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    async def press(pilot: Pilot[str]) -> None:
        await pilot.press(*keys)

    compare(app_for(recorded), name, size, press)


def test_empty(tmp_path: Path) -> None:
    empty = Workspace.create(tmp_path / "empty", resolve_settings(), {"dataset.name"})
    compare(app_for(empty, watch=False), "empty", (80, 24), nothing)


def test_attached(recorded: Workspace) -> None:
    run = recorded.run("learned")
    lines = run.journal_file.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if '"iteration": 33' in line)
    run.journal_file.write_text("".join(lines[:cut]))
    for frame in frame_iterations(run.film):
        if frame > 33:
            frame_path(run.film, frame).unlink()
    now = time.time()
    beat = {
        "pid": 4711,
        "host": "gpu-box",
        "beat": now,
        "moved": now,
        "stage": "distillation",
        "done": 32.5,
        "total": 60,
    }
    run.heartbeat_file.write_text(json.dumps(beat))
    (run.folder / "driver.json").write_text(json.dumps({"pid": 4711, "host": "gpu-box", "since": now - 7205}))
    assert liveness(run) == "stalled"  # not yet seen to beat
    os.utime(run.heartbeat_file, (now + 1, now + 1))
    assert liveness(run) == "running"
    compare(app_for(recorded), "attached", (120, 40), nothing)


def test_error(recorded: Workspace) -> None:
    async def fail(pilot: Pilot[str]) -> None:
        message = "The disk is full (checkpoints/0000060.safetensors)."
        hint = "Free some room and press r; what was saved is intact."
        pilot.app.push_screen(ErrorScreen(recorded.run("learned"), message=message, hint=hint, report=None))

    compare(app_for(recorded), "error", (80, 24), fail)

"""Real tiny runs, driven once a session, and a way to press keys on the live screens over them."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from engine.session.session import drive
from tesla_tui.live.app import TeslaApp
from tesla_tui.live.preferences import Preferences
from tesla_tui.watch.devices import Devices
from tests.conftest import TINY
from tests.processes import HANGS
from tests.runs import digits_workspace

Body = Callable[[Pilot[str]], Awaitable[None]]


def drive_run(workspace: Workspace, name: str, *overrides: str, until: int | None = None) -> None:
    run = workspace.run(name)
    events = drive(workspace, run, workspace.settings(overrides=(*TINY, *overrides), run=run))
    for event in events:
        if until is not None and getattr(event, "iteration", None) == until and event.kind == "IterationDone":
            events.close()
            break


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, dataset_cache: None) -> Path:
    """A workspace with a finished run with soft labels, and one that was stopped."""
    folder = tmp_path_factory.mktemp("live") / "ws"
    workspace = digits_workspace(folder)
    drive_run(workspace, "soft", "labels.kind=target", "distill.ipc=2")
    drive_run(workspace, "stopped", until=3)
    return folder


@pytest.fixture
def ws(made: Path, tmp_path: Path) -> Workspace:
    """A copy of it to break."""
    return Workspace(Path(shutil.copytree(made, tmp_path / "ws")))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No colours or preferences of whoever runs the tests."""
    for name in ("NO_COLOR", "TESLA_IMAGES", "TEXTUAL_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TESLA_TUI_CONFIG", str(tmp_path / "tui.toml"))


Show = Callable[..., None]


@pytest.fixture
def show(ws: Workspace) -> Iterator[Show]:
    """`show(body, run=..., size=...)` opens the app and hands a pilot to an async function."""

    def open_app(body: Body, *, size: tuple[int, int] = (120, 40), **options: Any) -> None:
        async def session() -> None:
            arguments: dict[str, Any] = {"workspace": ws, "watch": True, **options}
            preferences = arguments.pop("preferences", Preferences(refresh=0.1))
            app = TeslaApp(preferences, **{"devices": Devices(nvml=object()), **arguments})
            async with app.run_test(size=size, notifications=True) as pilot:
                await settled(pilot)
                try:
                    await body(pilot)
                finally:
                    if app.bench is not None and app.bench.engine is not None:
                        app.bench.engine.stop()
                        await asyncio.to_thread(app.bench.engine.join)

        asyncio.run(session())

    yield open_app


async def settled(pilot: Pilot[str]) -> None:
    """The journal is read and drawn."""
    await until(pilot, lambda: app_of(pilot).bench is None or not app_of(pilot).bench.context.loading)  # type: ignore[union-attr]
    await pilot.pause(0.15)


async def until(pilot: Pilot[str], true: Callable[[], object], seconds: float = HANGS) -> None:
    """Wait until something holds, while the app goes on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            await pilot.pause(0.1)
            return
        await pilot.pause(0.05)
    raise AssertionError(f"did not come true within {seconds} s\n{screen_text(pilot)}")


async def closed(pilot: Pilot[str]) -> None:
    """Wait until the app has ended. `until` asks its widgets to answer, which those of a closing app no longer do."""
    end = time.monotonic() + HANGS
    while pilot.app.is_running:
        assert time.monotonic() < end, f"the app did not end within {HANGS} s"
        await asyncio.sleep(0.05)


def app_of(pilot: Pilot[str]) -> TeslaApp:
    assert isinstance(pilot.app, TeslaApp)
    return pilot.app


def screen_text(pilot: Pilot[str]) -> str:
    """What stands on the screen, line by line."""
    width, height = pilot.app.size
    lines = []
    for strip in pilot.app.screen._compositor.render_strips():
        lines.append("".join(segment.text for segment in strip))
    return "\n".join(line[:width].rstrip() for line in lines[:height])

"""What is happening, on every tab, while a run has no iterations yet; and warnings that were not read."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from engine.storage.atomic import replace_bytes
from tesla_tui.live.screens.workbench import TABS
from tests.tui.live.conftest import Show, app_of, screen_text, until

pytestmark = pytest.mark.slow

PLANNED = {
    "kind": "TeachersPlanned", "buffer": "b", "count": 20, "epochs": 5, "epochs_asked": 5, "missing": 17, "bytes": 1,
    "gradients": 1,
}  # fmt: skip
WARNING = {"kind": "Notice", "level": "warning", "message": "Two images are identical."}
DOING = "training teachers 3/20: trajectory 4, epoch 2"


Young = Callable[..., None]


@pytest.fixture
def young(ws: Workspace) -> Iterator[Young]:
    """`young(event, ...)`: a run whose driver, on another machine, trains teachers and is heard of all the time."""
    ended, threads = threading.Event(), list[threading.Thread]()

    def write(*events: dict[str, object]) -> None:
        write_young_run(ws, *events)
        threads.append(threading.Thread(target=beat_until, args=(ws.run("young").heartbeat_file, ended)))
        threads[0].start()

    yield write
    ended.set()
    for thread in threads:
        thread.join()


def beat_until(file: Path, ended: threading.Event) -> None:
    while not ended.wait(0.2):
        beat = {"pid": 4711, "host": "gpu-box", "stage": "teachers", "done": 16, "total": 100, "unit": "epochs"}
        beat |= {"beat": time.time(), "moved": time.time(), "detail": "trajectory 4, epoch 2"}
        replace_bytes(file, json.dumps(beat).encode())


def write_young_run(ws: Workspace, *events: dict[str, object]) -> None:
    run = ws.run("young")
    run.folder.mkdir()
    started = {
        "kind": "RunStarted",
        "run": "young",
        "resumed_from": None,
        "settings": {"distill.iterations": 99},
        "environment": {},
    }
    lines = [started, PLANNED, {"kind": "StageStarted", "stage": "teachers"}, *events]
    with run.journal_file.open("w") as file:
        for number, line in enumerate(lines):
            file.write(json.dumps({"schema": 1, "seq": number, "time": time.time(), **line}) + "\n")
    (run.folder / "driver.json").write_text(json.dumps({"pid": 4711, "host": "gpu-box", "since": time.time() - 60}))
    run.heartbeat_file.write_text("{}")


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)])
def test_every_tab_says_what_is_happening(show: Show, young: Young, size: tuple[int, int]) -> None:
    young(WARNING)

    async def body(pilot: Pilot[str]) -> None:
        for number in range(1, len(TABS) + 1):
            await pilot.press(str(number))
            await until(pilot, lambda: DOING[:20] in status(pilot))
        if size[0] == 120:
            assert DOING in status(pilot) and status(pilot).endswith("Two images are identical.")

    show(body, run="young", size=size)


def test_charts_without_a_curve_say_what_is_done_meanwhile(show: Show, young: Young) -> None:
    young()

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "no iterations yet" in screen_text(pilot))
        await until(pilot, lambda: screen_text(pilot).count("training teachers 3/20") >= 3)

    show(body, run="young", size=(160, 50))


def test_the_log_counts_warnings_until_it_is_read(show: Show, young: Young, ws: Workspace) -> None:
    young(WARNING, WARNING)

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "5 Log !2 " in screen_text(pilot))
        await pilot.press("5")
        await until(pilot, lambda: "Two images" in screen_text(pilot) and "Log !" not in screen_text(pilot))
        await pilot.press("1")
        await pilot.pause(0.3)
        assert "Log !" not in screen_text(pilot)
        with ws.run("young").journal_file.open("a") as file:
            file.write(json.dumps({"schema": 1, "seq": 9, "time": time.time(), **WARNING}) + "\n")
        await until(pilot, lambda: "5 Log !1 " in screen_text(pilot))
        await pilot.click("TabBar", offset=(screen_text(pilot).split("\n")[1].index("Settings"), 0))
        await until(pilot, lambda: app_of(pilot).bench.pane.id == "settings")  # type: ignore[union-attr]

    show(body, run="young")


def status(pilot: Pilot[str]) -> str:
    """The line above the keys."""
    return screen_text(pilot).split("\n")[-2]

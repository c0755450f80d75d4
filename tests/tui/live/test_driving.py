"""Driving from the screens: pausing, saving, evaluating, stopping, detaching, attaching, and errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.events import EvaluationDone, RunPaused, RunResumed, RunStopped
from engine.runs.heartbeat import read_heartbeat
from engine.runs.journal import read_journal
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from tesla_tui import crash
from tesla_tui.live.dialogs.basic import Ask
from tesla_tui.live.dialogs.error import ErrorScreen
from tesla_tui.live.screens.workbench import Workbench
from tesla_tui.process.detached import ask_to_stop, wait_until_free
from tests.conftest import TINY
from tests.forks import ForkedTesla
from tests.processes import HANGS, NEVER, wait_for
from tests.tui.live.conftest import Show, app_of, closed, screen_text, until

pytestmark = pytest.mark.slow

LONG = (*TINY, f"distill.iterations={NEVER}", "evaluate.every=1000", "distill.checkpoint_every=1000")
"""Settings of a run that does not end by itself."""

LONG_OPTIONS = [word for text in LONG for word in ("--set", text)]

DRIVE = {"watch": False, "run": "long", "overrides": LONG}


def kinds(run: Run) -> list[str]:
    return [entry.event.kind for entry, _ in read_journal(run.journal_file)]


def iterations(run: Run) -> int:
    return sum(kind == "IterationDone" for kind in kinds(run))


async def distilling(pilot: Pilot[str], run: Run) -> None:
    await until(pilot, lambda: iterations(run) >= 3)


async def answered(pilot: Pilot[str], key: str) -> None:
    await pilot.press("q")
    await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
    await pilot.press(key)


def test_space_pauses_and_goes_on(show: Show, ws: Workspace) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await distilling(pilot, run)
        await until(pilot, lambda: "driven here" in screen_text(pilot) and "iterations/s" in screen_text(pilot))
        await pilot.press("space")
        await until(pilot, lambda: "‖ paused" in screen_text(pilot))
        before = iterations(run)
        await pilot.pause(0.5)
        assert iterations(run) == before
        await pilot.press("space")
        await until(pilot, lambda: iterations(run) > before)
        await until(pilot, lambda: "● running" in screen_text(pilot))

    show(body, **DRIVE)
    found = [entry.event for entry, _ in read_journal(run.journal_file)]
    assert sum(isinstance(event, RunPaused) for event in found) == 1
    assert next(event.seconds for event in found if isinstance(event, RunResumed)) >= 0.4


def test_save_and_evaluate_now_also_while_paused(show: Show, ws: Workspace) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await distilling(pilot, run)
        await pilot.press("s")
        await until(pilot, lambda: len(run.checkpoints()) == 2)
        await pilot.press("space")
        await until(pilot, lambda: "‖ paused" in screen_text(pilot))
        held = [e for e in run.evaluations() if e.split == "holdout" and e.subject == "distilled"]
        await pilot.press("e")
        await until(
            pilot,
            lambda: (
                len([e for e in run.evaluations() if e.split == "holdout" and e.subject == "distilled"]) > len(held)
            ),
        )
        await until(pilot, lambda: "‖ paused" in screen_text(pilot))  # it stands still again afterwards

    show(body, **DRIVE)
    done = [e.event for e, _ in read_journal(run.journal_file) if isinstance(e.event, EvaluationDone)]
    assert {event.subject for event in done} == {"random", "distilled"}


def test_quit_stops_and_loses_nothing(show: Show, ws: Workspace) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await distilling(pilot, run)
        await answered(pilot, "k")
        await pilot.pause(0.2)
        assert app_of(pilot).bench.driving  # type: ignore[union-attr]
        await answered(pilot, "s")
        await closed(pilot)
        assert "saved at iteration" in (pilot.app.return_value or "")

    show(body, **DRIVE)
    assert max(run.checkpoints()) == iterations(run)
    last = [entry.event for entry, _ in read_journal(run.journal_file)][-1]
    assert isinstance(last, RunStopped) and last.iteration == max(run.checkpoints())
    assert not is_driven(run) and not run.heartbeat_file.exists()


def test_a_run_driven_on_screen_has_the_bits_of_a_headless_one(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, Workbench))
        await until(pilot, lambda: "✓ finished" in screen_text(pilot))
        await until(pilot, lambda: "Finished: test accuracy" in screen_text(pilot))
        assert "distilled  " in screen_text(pilot) and "peak memory" in screen_text(pilot)

    overrides = (*TINY, "labels.kind=target", "distill.ipc=2")
    show(body, watch=False, run="again", overrides=overrides)
    there, again = (ws.run(name).load_checkpoint(6)[0] for name in ("soft", "again"))
    assert there.keys() == again.keys() and all((there[name] == again[name]).all() for name in there)


def test_detaching_hands_the_run_to_another_process(show: Show, ws: Workspace) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await distilling(pilot, run)
        await answered(pilot, "d")
        await closed(pilot)
        assert "is running in the background" in (pilot.app.return_value or "")

    try:
        show(body, **DRIVE)
        assert is_driven(run)
        pid = json.loads((run.folder / "driver.json").read_text())["pid"]
        assert pid != os.getpid() and os.getsid(pid) == pid  # a session of its own: no terminal can take it along
        before, end = iterations(run), time.monotonic() + HANGS
        while iterations(run) <= before + 2:
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        ask_to_stop(run)
    assert wait_until_free(run, HANGS)
    assert max(run.checkpoints()) >= before


@pytest.fixture
def headless(ws: Workspace) -> Iterator[ForkedTesla]:
    """A separate process that drives the run `long`."""
    process = ForkedTesla("run", ws.folder, "--run", "long", *LONG_OPTIONS)
    try:
        wait_for(lambda: ws.run("long").journal_file.exists() and iterations(ws.run("long")) > 2, process)
        yield process
    finally:
        process.kill()
        process.wait()


def test_attaching_watches_survives_kill_9_and_takes_over(show: Show, ws: Workspace, headless: ForkedTesla) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: f"READ-ONLY: process {headless.pid}" in screen_text(pilot))
        assert not app_of(pilot).bench.driving  # type: ignore[union-attr]
        await pilot.press("space")
        await until(pilot, lambda: "Read-only" in screen_text(pilot))
        seen = screen_text(pilot)
        await until(pilot, lambda: screen_text(pilot) != seen)
        os.kill(headless.pid, signal.SIGKILL)
        headless.wait()
        with open(run.journal_file, "ab") as file:
            file.write(b'{"schema": 1, "seq": 99, "kind": "Iterat')  # it died in the middle of a line
        await until(pilot, lambda: "interrupted" in screen_text(pilot))
        assert "driver died" in screen_text(pilot)
        await pilot.press("t")
        before = iterations(run)
        await until(pilot, lambda: "driven here" in screen_text(pilot) and iterations(run) > before)

    show(body, watch=False, run="long")
    assert "RunStopped" in kinds(run)


def test_taking_over_from_a_living_driver(show: Show, ws: Workspace, headless: ForkedTesla) -> None:
    run = ws.run("long")

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "READ-ONLY" in screen_text(pilot))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
        await pilot.press("y")
        await until(pilot, lambda: "driven here" in screen_text(pilot))
        assert headless.wait(HANGS) == 143

    show(body, watch=False, run="long")
    assert kinds(run).count("RunStarted") == 2


def test_a_known_error_says_cause_state_and_way_on(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, ErrorScreen))
        text = screen_text(pilot)
        assert "stayed bad" in text and "smaller distill.student_lr" in text.replace("\n", " ")
        assert re.search(r"Everything up to iteration \d+ is saved", text)
        assert "tesla-crash" not in text
        await pilot.press("escape")
        await until(pilot, lambda: "✕ failed" in screen_text(pilot))

    overrides = (*TINY, "distill.iterations=200", "distill.max_loss=1e-6")
    show(body, watch=False, run="bad", overrides=overrides)


def test_an_unforeseen_error_leaves_a_report_and_the_screens_stand(
    show: Show, ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from engine.session import loop

    def broken(*_: object) -> None:
        raise ZeroDivisionError("in the middle of nowhere")

    monkeypatch.setattr(loop, "resumed_or_new_state", broken)
    monkeypatch.setattr(crash, "PLACES", (lambda: tmp_path / "crashes",))

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, ErrorScreen))
        # Of the dialog alone: where its lines are broken depends on the length of a path.
        said = str(pilot.app.screen.query(Static).filter(".dialog-text").first().render())
        (report,) = (tmp_path / "crashes").iterdir()
        assert "middle of nowhere" in said and report.name in said
        monkeypatch.undo()
        monkeypatch.setenv("TESLA_CACHE", os.environ.get("TESLA_CACHE", ""))
        await pilot.press("r")
        await until(pilot, lambda: "✓ finished" in screen_text(pilot))

    show(body, watch=False, run="odd", overrides=TINY)
    (report,) = (tmp_path / "crashes").iterdir()
    assert "ZeroDivisionError" in report.read_text()


def test_a_new_run_starts_from_the_form(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("n")
        await pilot.pause(0.3)
        form = pilot.app.screen
        form.query_one("#new-overrides", Input).value = " ".join(TINY)
        await pilot.pause(0.1)
        form.query_one("#new-name", Input).focus()
        await pilot.press("end", "ctrl+u", *"fresh")
        await pilot.pause(0.1)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "› fresh" in screen_text(pilot) and "✓ finished" in screen_text(pilot))

    show(body, run="soft", watch=False)
    assert ws.run("fresh").checkpoints()[-1] == 6


def test_watching_starts_and_stops_nothing(show: Show, ws: Workspace) -> None:
    """`--watch`: no key starts a run that stands still, nor opens a form that would."""
    run = ws.run("stopped")
    before = run.journal_file.read_bytes()

    async def body(pilot: Pilot[str]) -> None:
        bench = app_of(pilot).bench
        assert bench is not None
        await until(pilot, lambda: "READ-ONLY" in screen_text(pilot))
        assert "Stopped at iteration 3." in screen_text(pilot) and "Press" not in screen_text(pilot)
        for number, key in enumerate(("space", "t", "n"), 1):
            await pilot.press(key)
            await until(pilot, lambda n=number: len(pilot.app._notifications) == n)  # type: ignore[misc]
            assert not bench.driving and pilot.app.screen is bench
        assert all("--watch" in notice.message for notice in pilot.app._notifications)

    show(body, run="stopped", watch=True)
    assert run.journal_file.read_bytes() == before and not is_driven(run)


def test_a_suspended_driver_is_shown_as_stalled(show: Show, ws: Workspace, headless: ForkedTesla) -> None:
    os.kill(headless.pid, signal.SIGSTOP)

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "▲ stalled" in screen_text(pilot))
        os.kill(headless.pid, signal.SIGCONT)
        await until(pilot, lambda: "● running" in screen_text(pilot))

    try:
        show(body, run="long")
    finally:
        os.kill(headless.pid, signal.SIGCONT)
        headless.terminate()
    assert headless.wait(HANGS) == 143


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_a_real_terminal(ws: Workspace, tmp_path: Path) -> None:
    """tmux: a run starts, the loss is drawn, it pauses, it stops, the checkpoint is there, the terminal is whole."""
    run = ws.run("long")
    socket = f"tesla-test-{os.getpid()}"

    def tmux(*words: str) -> str:
        return subprocess.run(
            ["tmux", "-u", "-L", socket, *words], capture_output=True, encoding="utf-8", check=True
        ).stdout

    def screen() -> str:
        return tmux("capture-pane", "-p", "-t", "t")

    def wait(words: str, seconds: float = HANGS) -> None:
        until_then = time.monotonic() + seconds
        while words not in screen():
            assert time.monotonic() < until_then, screen()
            time.sleep(0.1)

    sets = " ".join(f"--set {text}" for text in LONG)
    command = f"{sys.executable} -m tesla_tui.main tui {ws.folder} --run long {sets}; echo code=$?"
    environment = {
        **os.environ,
        "TESLA_TUI_CONFIG": str(tmp_path / "none.toml"),
        "SHELL": "/bin/sh",
        "LC_ALL": "C.UTF-8",
    }
    size = ["-x", "100", "-y", "30"]
    session = ["tmux", "-u", "-L", socket, "-f", "/dev/null", "new-session", "-d", "-s", "t", *size, "/bin/sh"]
    subprocess.run(session, env=environment, check=True)
    try:
        tmux("send-keys", "-t", "t", command, "Enter")
        wait("iterations/s")
        wait("⡇")  # the falling loss
        tmux("send-keys", "-t", "t", "Space")
        wait("‖ paused")
        tmux("send-keys", "-t", "t", "Space")
        wait("● running")
        tmux("send-keys", "-t", "t", "2")
        wait("▀▀▀")
        tmux("send-keys", "-t", "t", "q")
        wait("Stop and save")
        tmux("send-keys", "-t", "t", "s")
        wait("code=0")
        assert "saved at iteration" in screen() and "▀▀▀" not in screen()
    finally:
        tmux("kill-server")
    assert max(run.checkpoints()) == iterations(run) > 0


@pytest.mark.parametrize(
    ("number", "code", "paused"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGINT, 130, False),
        (signal.SIGHUP, 129, False),
        (signal.SIGTERM, 143, True),
    ],
)
def test_told_to_stop_from_outside_it_saves_and_leaves(
    ws: Workspace, tmp_path: Path, number: int, code: int, paused: bool
) -> None:
    """Also when the terminal is gone: then the terminal's end is closed, which sends SIGHUP by itself."""
    import pty
    import select

    run = ws.run("long")
    terminal, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "TESLA_TUI_CONFIG": str(tmp_path / "none")}
    process = ForkedTesla("tui", ws.folder, "--run", "long", *LONG_OPTIONS, env=environment, terminal=theirs)
    os.close(theirs)
    drawn, limit = b"", time.monotonic() + HANGS
    while time.monotonic() < limit and not (run.journal_file.exists() and iterations(run) > 5):
        if select.select([terminal], [], [], 0.1)[0]:
            drawn += os.read(terminal, 65536)
    if paused:
        os.write(terminal, b" ")
        while not ((beat := read_heartbeat(run.heartbeat_file)) and beat.paused) and time.monotonic() < limit:
            if select.select([terminal], [], [], 0.1)[0]:
                drawn += os.read(terminal, 65536)
    if number == signal.SIGHUP:
        os.close(terminal)
    else:
        process.send_signal(number)
    limit = time.monotonic() + HANGS
    while process.poll() is None and time.monotonic() < limit:
        if number != signal.SIGHUP and select.select([terminal], [], [], 0.05)[0]:
            try:
                drawn += os.read(terminal, 65536)
            except OSError:
                time.sleep(0.05)
        elif number == signal.SIGHUP:
            time.sleep(0.05)
    process.kill()
    if number != signal.SIGHUP:
        os.close(terminal)
        assert b"saved at iteration" in drawn and drawn.rfind(b"\x1b[?1049l") > drawn.rfind(b"\x1b[?1049h")
    assert process.wait() == code
    assert max(run.checkpoints()) == iterations(run) > 5 and not is_driven(run)

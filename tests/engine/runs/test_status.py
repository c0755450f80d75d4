"""What a run leaves for those who watch: its heartbeat, its film, and the answers to wishes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import CorruptFileError
from engine.events import CheckpointSaved, EvaluationDone, Event, IterationDone, Progress, RunPaused, RunResumed
from engine.runs.heartbeat import Heartbeat, heartbeat, read_heartbeat
from engine.runs.journal import read_journal
from engine.runs.lease import acquire_run
from engine.runs.preview_frames import (
    MOST_FRAMES,
    Frame,
    frame_iterations,
    frame_path,
    images_shown,
    read_frame,
    thin,
    write_frame,
)
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.control import Control
from engine.session.session import drive
from tests.conftest import TINY

Drive = Callable[..., Run]


def test_a_heartbeat_tells_progress_and_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.storage.beats.EVERY", 0.02)
    path = tmp_path / ".pulse.json"
    with heartbeat(path) as heart:
        first = read_heartbeat(path)
        assert first is not None and not first.stalled and first.total == 0
        heart.note(Progress(stage="teachers", done=1.5, total=4, unit="epochs", detail="x"))
        heart.note(RunPaused())
        time.sleep(0.2)
        later = read_heartbeat(path)
        assert later is not None and later.beat > first.beat
        assert (later.stage, later.done, later.total, later.paused) == ("teachers", 1.5, 4, True)
    assert read_heartbeat(path) is None and list(tmp_path.iterdir()) == []


def test_a_driver_without_progress_is_stalled_unless_paused() -> None:
    assert Heartbeat(1, "h", beat=5000, moved=4000).stalled
    assert not Heartbeat(1, "h", beat=5000, moved=4000, paused=True).stalled
    assert not Heartbeat(1, "h", beat=5000, moved=4990).stalled


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "host": "h", "beat": 1, "moved": "1"}'])
def test_a_damaged_heartbeat_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(text)
    assert read_heartbeat(tmp_path / "p") is None


def test_a_watcher_that_looks_does_not_keep_a_driver_out(tiny_run: Drive, workspace: Workspace) -> None:
    import threading

    from filelock import FileLock

    run = tiny_run("r", "distill.iterations=1")
    lock = FileLock(run.folder / ".driver.lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.3, lambda: lock.release(force=True)).start()
    with run_to_end(acquire_run(run)):
        pass


@pytest.mark.slow
def test_wishes_are_granted_between_iterations(workspace: Workspace) -> None:
    run = workspace.run("r")
    control = Control()
    assert not control.save() and not control.evaluate()  # nothing is distilled yet
    asked = False
    seen: list[Event] = []
    effective = workspace.settings(overrides=(*TINY, "distill.checkpoint_every=100", "evaluate.every=100"), run=run)
    for event in drive(workspace, run, effective, control):
        seen.append(event)
        if isinstance(event, IterationDone) and event.iteration == 2 and not asked:
            asked = True
            assert control.evaluate()
    saved = [event.iteration for event in seen if isinstance(event, CheckpointSaved)]
    held = [
        e.iteration for e in seen if isinstance(e, EvaluationDone) and e.split == "holdout" and e.subject == "distilled"
    ]
    assert saved == held == [0, 2, 6]
    assert not control.save()


@pytest.mark.slow
def test_a_pause_changes_no_bit(workspace: Workspace, tiny_run: Drive) -> None:
    plain = tiny_run("plain")
    run = workspace.run("paused")
    control = Control()
    stood = 0
    for event in drive(workspace, run, workspace.settings(overrides=TINY, run=run), control):
        if isinstance(event, Progress) and event.detail == "paused":
            stood += 1
            if stood % 3 == 0:
                control.resume()
        elif isinstance(event, IterationDone) and event.iteration in (2, 4):
            control.pause()
    a, b = (one.load_checkpoint(6)[0] for one in (plain, run))
    assert all(torch.equal(a[name], b[name]) for name in a)
    events = [entry.event for entry, _ in read_journal(run.journal_file)]
    assert sum(isinstance(e, RunPaused) for e in events) == sum(isinstance(e, RunResumed) for e in events) == 2


def test_stopping_while_paused_saves(workspace: Workspace) -> None:
    run = workspace.run("r")
    control = Control()
    events = drive(workspace, run, workspace.settings(overrides=TINY, run=run), control)
    for event in events:
        if isinstance(event, IterationDone) and event.iteration == 2:
            control.pause()
        if isinstance(event, Progress) and event.detail == "paused":
            events.close()
            break
    assert run.checkpoints() == [0, 2] and run_status(run).state == "stopped"


@pytest.mark.slow
def test_the_film_shows_what_the_checkpoints_hold(tiny_run: Drive, workspace: Workspace) -> None:
    from engine.runs.gallery import decoded_images

    run = tiny_run("r", "labels.kind=target", "distill.ipc=2")
    assert set(run.checkpoints()) <= set(frame_iterations(run.film))
    for iteration in run.checkpoints():
        frame = read_frame(frame_path(run.film, iteration))
        assert frame.iteration == iteration and frame.shown == 2
        assert (frame.pixels == decoded_images(workspace, run, iteration).pixels).all()
    top = read_frame(frame_path(run.film, 6)).top
    assert top is not None and len(top) == 20
    for labels in top:
        shares = [share for _, share in labels]
        assert len(labels) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.001


def picture(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize(
    ("count", "shown", "side", "channels"), [(10, 1, 8, 1), (7, 1, 33, 3), (30, 3, 28, 3), (1, 1, 4, 1)]
)
def test_frames_come_back_bit_for_bit(
    tmp_path: Path, lasting: bool, count: int, shown: int, side: int, channels: int
) -> None:
    pixels = picture(count, side, channels)
    top = [[(3, 0.75), (1, 0.25)] for _ in range(count)]
    write_frame(tmp_path / "0000005.png", Frame(5, pixels, shown, top), lasting=lasting)
    back = read_frame(tmp_path / "0000005.png")
    assert (back.pixels == pixels).all() and back.top == top and (back.iteration, back.shown) == (5, shown)


def test_what_is_no_frame_is_refused_in_words(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    path = tmp_path / "1.png"
    write_frame(path, Frame(1, picture(10, 8, 1), 1, None), lasting=True)
    whole = path.read_bytes()
    for damaged in (b"", b"x", whole[:60], whole[: len(whole) // 2], whole[:100] + b"\0" * 20 + whole[120:]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"1\.png"):
            read_frame(path)
    with pytest.raises(CorruptFileError):
        read_frame(tmp_path / "absent.png")
    layout = {"iteration": 1, "count": 10, "shown": 1, "side": 8, "factor": 4}
    for change in ({}, {"count": -1}, {"side": 10**9}, {"factor": 0}, {"count": 11}, {"side": "x"}):
        chunk = PngImagePlugin.PngInfo()
        if change:
            chunk.add_itxt("tesla", json.dumps({**layout, **change}))
        Image.new("L", (392, 32)).save(path, pnginfo=chunk)
        with pytest.raises(CorruptFileError):
            read_frame(path)


def test_the_film_is_bounded_and_keeps_ends_and_checkpoints(tmp_path: Path) -> None:
    for iteration in range(3 * MOST_FRAMES):
        frame_path(tmp_path, iteration).write_bytes(b"x")
    thin(tmp_path, {33, 101})
    left = frame_iterations(tmp_path)
    assert MOST_FRAMES / 3 < len(left) <= MOST_FRAMES and {0, 33, 101, 3 * MOST_FRAMES - 1} <= set(left)
    gaps = np.diff(left)
    assert gaps.max() <= 8


def test_large_sets_are_filmed_in_part() -> None:
    assert images_shown(10, 50, 32) == 50
    assert images_shown(1000, 50, 64) == 1
    assert 1 <= images_shown(100, 50, 64) < 50

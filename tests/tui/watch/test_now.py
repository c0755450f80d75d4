"""The line that says what a run is doing, from recorded journals and heartbeats."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs.run import Run
from engine.storage.filesystem import System, disk
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.now import Now, now

STARTED = {
    "kind": "RunStarted",
    "run": "r",
    "resumed_from": None,
    "settings": {"distill.iterations": 99},
    "environment": {},
}
PLANNED = {
    "kind": "TeachersPlanned", "buffer": "b", "count": 20, "epochs": 5, "epochs_asked": 5, "missing": 17, "bytes": 1,
    "gradients": 1,
}  # fmt: skip
TEACHERS, DISTILLATION = (
    {"kind": "StageStarted", "stage": "teachers"},
    {"kind": "StageStarted", "stage": "distillation"},
)
ITERATION = {
    "kind": "IterationDone", "iteration": 7, "iterations": 99, "loss": 0.5, "student_lr": 0.01, "gradient_norm": 1.0,
    "student_lr_gradient": 0.0, "trajectory": 0, "start_epoch": 0, "seconds": 0.5,
}  # fmt: skip
WARNING = {"kind": "Notice", "level": "warning", "message": "Two images are identical."}
INFO = {"kind": "Notice", "level": "info", "message": "compiling the step"}

Written = Callable[..., RunFeed]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """`written(events, state=..., stage=..., detail=...)`: the feed of a run with this journal and heartbeat."""

    def write(*events: dict[str, object], state: str = "running", **beat: object) -> RunFeed:
        run = Run(tmp_path)
        lines = [{"schema": 1, "seq": n, "time": 1000.0 + n, **event} for n, event in enumerate(events)]
        run.journal_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        values = {"pid": os.getpid(), "host": "here", "beat": time.time(), "moved": time.time(), **beat}
        run.heartbeat_file.write_text(json.dumps(values))
        feed = RunFeed(run)
        feed.catch_up()
        feed.state = state
        return feed

    return write


@pytest.mark.parametrize(
    ("events", "beat", "words"),
    [
        ((), {}, "starting: opening the data"),
        ((STARTED,), {"stage": "data", "detail": "opening the files, 3 s"}, "opening the data: opening the files, 3 s"),
        (
            (STARTED, PLANNED, TEACHERS),
            {"stage": "teachers", "detail": "trajectory 4, epoch 2"},
            "training teachers 3/20: trajectory 4, epoch 2",
        ),
        (
            (STARTED, PLANNED, TEACHERS),
            {"stage": "teachers", "detail": "waiting for process 12"},
            "training teachers 3/20: waiting for process 12",
        ),
        (
            (STARTED, DISTILLATION),
            {"stage": "distillation", "detail": "compiling, 12 s"},
            "compiling, 12 s (distillation)",
        ),
        (
            (STARTED, DISTILLATION),
            {"stage": "distillation", "detail": "choosing with teacher 3 of 9"},
            "preparing the images: choosing with teacher 3 of 9",
        ),
        ((STARTED, DISTILLATION, ITERATION), {"stage": "distillation"}, "distilling: iteration 7/99"),
        (
            (STARTED, DISTILLATION, ITERATION),
            {"stage": "evaluation", "detail": "distilled, convnet, network 2/5"},
            "evaluating iteration 7: distilled, convnet, network 2/5",
        ),
    ],
)
def test_it_says_what_a_driver_does(
    written: Written, events: tuple[object, ...], beat: dict[str, object], words: str
) -> None:
    found = now(written(*events, **beat))
    assert (found.text, found.level) == (words, "info")
    assert now(written(*events, state="paused", **beat)) == Now(
        f"Paused: {words}.", "warning", "Press space to resume."
    )


@pytest.mark.parametrize(
    ("state", "words", "level", "press"),
    [
        ("new", "Not started.", "info", "Press space to start it."),
        ("stopped", "Stopped at iteration 7.", "info", "Press space to resume."),
        ("interrupted", "The driver died at iteration 7.", "error", "Press t to resume."),
        ("finished", "Finished.", "good", ""),
        ("stalled", "Stalled, no recent progress: distilling: iteration 7/99", "warning", ""),
    ],
)
def test_it_says_why_nothing_is_done(written: Written, state: str, words: str, level: str, press: str) -> None:
    events = () if state == "new" else (STARTED, DISTILLATION, ITERATION)
    found = now(written(*events, state=state, stage="distillation" if events else ""))
    assert found == Now(words, level, press)


def test_a_full_disk_is_why_a_run_stalls(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(System):
        left = 4096

        def free(self, place: Path) -> int:
            return self.left

    monkeypatch.setattr(disk, "system", Full())
    events = (STARTED, DISTILLATION, ITERATION)
    stalled = now(written(*events, state="stalled"))
    assert stalled.text.startswith("Stalled because the disk is full (4") and "Free some space" in stalled.text
    assert "because the disk is full" in now(written(*events, state="interrupted")).text
    Full.left = 10**8
    running = now(written(*events, stage="distillation"))
    assert running.level == "warning" and "only 100 MB of disk space are left" in running.text
    assert "disk" not in now(written(*events, state="stalled")).text


@pytest.mark.parametrize("end", ["RunFinished", "RunStopped"])
def test_information_of_a_run_is_over_with_it(written: Written, end: str) -> None:
    """A finished run said "Compiling" for ever."""
    ended = {"RunFinished": {"seconds": 3.0}, "RunStopped": {"reason": "asked", "iteration": None}}[end]
    assert written(STARTED, INFO, {"kind": end, **ended}).view.notice is None
    kept = written(STARTED, WARNING, {"kind": end, **ended}).view.notice
    assert kept is not None and kept.text == WARNING["message"]


def test_the_newest_notice_and_the_warnings_are_counted(written: Written) -> None:
    view = written(STARTED, WARNING, WARNING, INFO, DISTILLATION, ITERATION).view
    assert view.warnings == 2 and view.notice is not None
    assert (view.notice.text, view.notice.level) == ("compiling the step", "info")

"""The fold of a journal: its rules one by one, and the fast way against the slow one."""

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from engine.events import (
    CheckpointSaved,
    EvaluationDone,
    Event,
    IterationDone,
    IterationSkipped,
    Notice,
    RunFailed,
    RunFinished,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStarted,
    RunStopped,
    StageFinished,
    StageStarted,
    TeacherEpoch,
    TeacherPublished,
    TeachersPlanned,
    event_to_json,
)
from engine.runs import accuracies, tallies
from engine.runs.history import LATELY, MOST_DRIVES, RunHistory
from engine.runs.iteration_lines import iteration_columns
from engine.runs.journal import Entry, entry_from_json, read_journal
from engine.runs.workspace import Workspace

OLD = Path(__file__).parents[2] / "data" / "workspace-0.1.0"


def start(resumed: int | None = None, **settings: object) -> RunStarted:
    asked = {"distill.iterations": 99, "evaluate.every": 10, **settings}
    return RunStarted(run="r", resumed_from=resumed, settings=asked, environment={"device": "cpu"})


def iteration(number: int, loss: float = 0.5, seconds: float = 0.5) -> IterationDone:
    return IterationDone(
        iteration=number, iterations=99, loss=loss, student_lr=number / 100, gradient_norm=2.0,
        student_lr_gradient=None, trajectory=None, start_epoch=3, seconds=seconds,
    )  # fmt: skip


def skip(number: int) -> IterationSkipped:
    return IterationSkipped(iteration=number, reason="loss not finite", loss=None, consecutive=1)


def recovery(number: int, student_lr: float) -> RunRecovered:
    return RunRecovered(iteration=number, student_lr=student_lr, recoveries=1)


def evaluation(number: int, mean: float, split: str = "holdout", subject: str = "distilled") -> EvaluationDone:
    return EvaluationDone(
        iteration=number, subject=subject, split=split, network="n", mean=mean, std=0.1, accuracies=[mean, mean],
        seconds=4.0,
    )  # fmt: skip


def line(seq: int, event: Event) -> dict[str, Any]:
    return json.loads(json.dumps({"schema": 1, "seq": seq, "time": 1000.0 + seq, **event_to_json(event)}))


def folded(*events: Event) -> RunHistory:
    history = RunHistory()
    history.fold(line(seq, event) for seq, event in enumerate(events))
    return history


def done(first: int, last: int, loss: float = 0.5) -> list[Event]:
    return [iteration(number, loss) for number in range(first, last + 1)]


def test_iterations_done_twice_count_once_the_later() -> None:
    killed = folded(start(), *done(1, 3), skip(4), *done(5, 6), recovery(6, 0.001), *done(7, 8, loss=9.0))
    assert (killed.iteration, killed.skipped, killed.recoveries, killed.open) == (8, 1, 1, True)
    resumed = folded(
        start(),
        *done(1, 3),
        skip(4),
        *done(5, 6),
        recovery(6, 0.001),
        *done(7, 8, loss=9.0),
        start(3),
        *done(4, 5, 0.1),
    )
    assert (resumed.iteration, resumed.skipped, resumed.recoveries) == (5, 0, 0)
    assert resumed.loss.points().x.tolist() == [1, 2, 3, 4, 5]
    assert resumed.loss.points().mean.tolist() == [0.5, 0.5, 0.5, 0.1, 0.1]
    assert resumed.recent_loss == pytest.approx(0.34) and resumed.student_lr.latest == 0.05
    assert resumed.costs.iterations.count == 9 and resumed.costs.distillation == 4.5  # what was lost was spent


def test_a_start_goes_back_before_anything_is_done_again() -> None:
    history = folded(start(), *done(1, 8), CheckpointSaved(iteration=5, path=""), start(5))
    assert history.iteration == 5 and len(history.loss) == 5 and history.student_lr.latest == 0.05
    assert history.pace is None  # of the last start
    assert folded(start(), *done(1, 8), start(None)).iteration == 0


def test_a_damaged_checkpoint_is_noticed_by_the_iteration_that_comes_again() -> None:
    # The driver read the names of the checkpoints; the newest turned out to be damaged, and it went on from 5.
    history = folded(start(), *done(1, 7), skip(8), CheckpointSaved(iteration=8, path=""), start(8), *done(6, 6, 0.1))
    assert (history.iteration, history.skipped, history.checkpoints) == (6, 0, 5)
    assert history.loss.points().x.tolist() == [1, 2, 3, 4, 5, 6]
    skipped = folded(start(), *done(1, 8), start(8), skip(6))
    assert (skipped.iteration, skipped.skipped, len(skipped.loss)) == (6, 1, 5)


def test_going_back_is_told_to_those_who_keep_more() -> None:
    history = RunHistory()
    told = [history.add(Entry(n, 1.0, e)) for n, e in enumerate([start(), *done(1, 3), start(3), start(2), skip(2)])]
    assert told == [None, None, None, None, None, 2, 1]


def test_where_lines_were_lost_a_start_and_the_disk_tell_how_far_it_is() -> None:
    history = folded(start(40), iteration(41))
    assert history.iteration == 41 and history.loss.points().x.tolist() == [41]
    lost = folded(Notice(level="warning", message="The history before this was lost."))
    assert (lost.iteration, lost.checkpoints, lost.open, lost.ending) == (0, None, False, "")
    lost.note_checkpoint(30)
    assert (lost.iteration, lost.checkpoints) == (30, 30)
    history.note_checkpoint(30)
    assert (history.iteration, history.checkpoints) == (41, 40)


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (RunStopped(reason="asked to stop", iteration=4), "stopped"),
        (RunFailed(message="no room"), "failed"),
        (RunFinished(seconds=1.0), "finished"),
    ],
)
def test_endings(event: Event, ending: str) -> None:
    stages: list[Event] = [StageStarted(stage="distillation"), *done(1, 4), RunPaused()]
    history = folded(start(), *stages, event)
    assert (history.ending, history.open, history.stage, history.paused) == (ending, False, "", False)
    assert history.failure == ("no room" if ending == "failed" else "")
    again = folded(start(), *stages, event, start(4))
    assert (again.ending, again.open, again.failure) == ("", True, "")
    lost = folded(start(), *stages, event, iteration(5))  # the line of the second start is damaged
    assert (lost.ending, lost.open) == ("", True)


def test_pausing() -> None:
    assert folded(start(), RunPaused()).paused
    assert not folded(start(), RunPaused(), RunResumed(seconds=1.0)).paused
    assert not folded(start(), RunPaused(), start()).paused  # killed while it was paused


def test_stages() -> None:
    events = [start(), StageStarted(stage="teachers"), StageFinished(stage="teachers", seconds=1.0)]
    assert folded(*events[:2]).stage == "teachers" and folded(*events).stage == ""
    events += [StageStarted(stage="distillation"), iteration(1), StageStarted(stage="evaluation")]
    history = folded(*events)
    assert (history.stage, history.distilling) == ("evaluation", True)
    events.append(StageFinished(stage="evaluation", seconds=7.0))
    history = folded(*events)
    assert (history.stage, history.evaluation_seconds) == ("distillation", 7.0)
    assert history.eta == 98 * 0.5 + 9 * 7.0  # evaluations at 10, 20, ..., 90


def test_teachers() -> None:
    planned = TeachersPlanned(buffer="b", count=5, epochs=4, epochs_asked=4, missing=2, bytes=1)
    assert folded(start()).teachers_done == 0
    assert folded(start(), planned).teachers_done == 3
    there = [TeacherPublished(trajectory=n, path="") for n in (3, 4, 4)]
    assert folded(start(), planned, *there).teachers_done == 5
    epoch = TeacherEpoch(trajectory=3, epoch=1, epochs=4, loss=1.0, accuracy=0.5, seconds=2.5)
    costs = folded(start(), planned, epoch, epoch).costs
    assert (costs.teachers, costs.teacher_epochs) == (5.0, 2)


def test_evaluations_belong_to_the_protocol_of_their_start() -> None:
    first = [start(**{"evaluate.epochs": 8}), evaluation(3, 0.5), evaluation(6, 0.7)]
    second = [start(6, **{"evaluate.epochs": 9}), evaluation(6, 0.4)]
    assert [(e.iteration, e.mean) for e in folded(*first, *second).held_out()] == [(6, 0.4)]
    back = folded(*first, *second, first[0])
    assert [(e.iteration, e.mean) for e in back.held_out()] == [(3, 0.5), (6, 0.7)]
    best = back.best()
    assert best is not None and best.iteration == 6
    assert back.costs.evaluated == 6 and back.costs.evaluation == 12.0


def test_what_older_starts_did_not_record_was_the_default() -> None:
    first = [start(), evaluation(3, 0.5)]
    assert folded(*first, start(3, **{"evaluate.batch": 256, "evaluate.reset_momentum": False})).held_out()
    assert not folded(*first, start(3, **{"evaluate.batch": 128, "evaluate.reset_momentum": False})).held_out()
    assert not folded(*first, start(3, **{"evaluate.batch": 256, "evaluate.reset_momentum": True})).held_out()


def test_an_old_run_that_goes_on_keeps_its_accuracies() -> None:
    run = Workspace(OLD).run("old")
    events = [entry.event for entry, _ in read_journal(run.journal_file)]
    then, now = folded(*events), folded(*events, start(3, **run.frozen().flat()))
    assert then.best() is not None and then.baseline() is not None and then.tests()
    assert (now.held_out(), now.baseline(), now.tests()) == (then.held_out(), then.baseline(), then.tests())


def test_evaluations_survive_going_back() -> None:
    history = folded(start(), *done(1, 6), evaluation(6, 0.7), start(3))
    assert [e.iteration for e in history.held_out()] == [6] and history.iteration == 3


def test_drives() -> None:
    history = folded(start(), *done(1, 4), start(4), iteration(5))
    assert [tuple(drive) for drive in history.drives] == [(1000.0, 1004.0), (1005.0, 1006.0)]
    assert history.started == 1000.0 and history.driven_seconds() == 5.0
    assert history.driven_seconds(1010.0) == 9.0 and history.driven_seconds() == 5.0
    assert folded(iteration(1)).driven_seconds() is None


@pytest.mark.parametrize("batch", [True, False])
def test_a_clock_that_is_set_back_takes_no_time_away(batch: bool) -> None:
    times = [1000.0, 1010.0, 1020.0, 400.0, 410.0]
    events = [start(), *done(1, 4)]
    lines = [
        {"seq": number, "time": time, **event_to_json(event)}
        for number, (time, event) in enumerate(zip(times, events, strict=True))
    ]
    history = RunHistory()
    for part in [lines] if batch else [[line] for line in lines]:
        history.fold(part)
    assert history.driven_seconds() == 30.0 and len(history.drives) == 1
    assert history.driven_seconds(300.0) == 30.0, "set back again, and nothing was written since"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MOST_MARKS", 10)
    monkeypatch.setattr(accuracies, "MOST_EVALUATIONS", 10)
    skips = [skip(number) for number in range(1, 51)]
    history = folded(start(), *skips, *(evaluation(number, 0.5) for number in range(50)), evaluation(3, 0.9))
    assert (
        history.skipped == 50 and len(history._skips["numbers not finite"]._at) == 10 and len(history.evaluations) == 10
    )
    assert history.held_out()[3].mean == 0.9  # a known one may still change
    assert folded(start(), *skips, start(45)).skipped == 45
    assert folded(start(), *skips, start(None)).skipped == 0
    many = folded(*(start(1) for _ in range(MOST_DRIVES + 5)))
    assert len(many.drives) == MOST_DRIVES
    long = folded(start(), *done(1, 3000))
    assert len(long.loss) <= 1024 and len(long._losses) == len(long._seconds) == LATELY


def random_events(seed: int) -> list[Event]:
    """What drivers that are killed, resumed, stopped and damaged write."""
    draw = random.Random(seed)
    events: list[Event] = [start()]
    at, saved = 0, 0
    for _ in range(400):
        chance = draw.random()
        at += 1
        if chance < 0.80:
            events.append(iteration(at, draw.random(), draw.random()))
        elif chance < 0.88:
            events.append(skip(at))
        elif chance < 0.92:
            events += [iteration(at), CheckpointSaved(iteration=at, path="")]
            saved = at
        elif chance < 0.94:
            events.append(start(saved))
            at = saved
        elif chance < 0.95:  # the newest checkpoint is damaged
            at = saved = saved // 2
        else:
            at -= 1
            events.append(draw.choice([recovery(at, 0.5), Notice(level="info", message="m"), evaluation(at, 0.5)]))
    return events


@pytest.mark.parametrize("seed", range(8))
def test_all_ways_of_folding_are_the_same_as_a_list_of_everything(seed: int) -> None:
    events = random_events(seed)
    lines = [line(seq, event) for seq, event in enumerate(events)]
    whole, one_by_one, pieces = folded(*events), RunHistory(), RunHistory()
    for value in lines:
        entry = entry_from_json(value)
        assert entry is not None
        one_by_one.add(entry)
    draw, begin = random.Random(seed), 0
    while begin < len(lines):
        size = draw.randint(1, 40)
        pieces.fold(lines[begin : begin + size])
        begin += size

    kept: list[tuple[int, Event]] = []  # the oracle: the events that count
    for event in events:
        number = event.resumed_from or 0 if isinstance(event, RunStarted) else None
        if isinstance(event, IterationDone | IterationSkipped):
            number = event.iteration - 1
        if number is not None:
            kept = [(n, e) for n, e in kept if n <= number]
        if isinstance(event, IterationDone | IterationSkipped | RunRecovered):
            kept.append((event.iteration, event))
    iterations = [e for _, e in kept if isinstance(e, IterationDone)]
    for history in (whole, one_by_one, pieces):
        assert history.loss.points().x.tolist() == [e.iteration for e in iterations]
        assert history.loss.points().mean.tolist() == [e.loss for e in iterations]
        assert history.skipped == sum(isinstance(e, IterationSkipped) for _, e in kept)
        assert history.recoveries == sum(isinstance(e, RunRecovered) for _, e in kept)
        assert history.costs.iterations.count == sum(isinstance(e, IterationDone) for e in events)
        assert history.costs.distillation == pytest.approx(whole.costs.distillation)
        for name in ("iteration", "checkpoints", "recent_loss", "open", "stage", "evaluations", "drives", "events"):
            assert getattr(history, name) == getattr(whole, name), name


WRONG = (
    ("iteration", "x"), ("iteration", True), ("iteration", 2**63), ("iterations", None), ("loss", "0"), ("loss", True),
    ("loss", float("nan")), ("student_lr", float("inf")), ("gradient_norm", {}), ("student_lr_gradient", "x"),
    ("trajectory", 0.5), ("start_epoch", -(2**64)), ("seconds", [1]), ("seq", None), ("seq", "1"), ("time", -1.0),
    ("time", 1e300), ("time", float("nan")),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_line_that_is_refused_alone_is_refused_in_a_batch(name: str, value: object) -> None:
    lines = [line(seq, iteration(seq)) for seq in (1, 2, 3)]
    assert iteration_columns(lines) is not None
    lines[1][name] = value
    assert entry_from_json(lines[1]) is None and iteration_columns(lines) is None
    del lines[1][name]
    assert iteration_columns(lines) is None
    lines[1][name] = value
    history = RunHistory()
    history.fold(lines)
    assert history.loss.points().x.tolist() == [1, 3] and history.events == 3


@pytest.mark.parametrize(("name", "value"), [("loss", 1), ("student_lr_gradient", 2), ("time", 5), ("unheard", {})])
def test_an_unusual_line_that_is_right_counts(name: str, value: object) -> None:
    lines = [line(seq, iteration(seq)) for seq in (1, 2, 3)]
    lines[1][name] = value
    history = RunHistory()
    history.fold(lines)
    assert history.loss.points().x.tolist() == [1, 2, 3]


def test_the_columns_are_the_fields_of_an_iteration() -> None:
    columns = iteration_columns([line(1, iteration(1))])
    assert columns is not None and set(columns) == {"seq", "time", *(field.name for field in fields(IterationDone))}


@pytest.mark.parametrize("fast", [True, False])
def test_an_iteration_that_compiles_is_not_the_pace(fast: bool) -> None:
    compiling = Notice(level="info", message="Compiling the matching steps.", about="compiling")
    history = RunHistory()

    def take(*events: Event) -> None:
        entries = [Entry(seq=n, time=float(n), event=event) for n, event in enumerate(events)]
        if fast:
            history.fold([{"seq": e.seq, "time": e.time, "schema": 1, **event_to_json(e.event)} for e in entries])
        else:
            for entry in entries:
                history.add(entry)

    take(start(), compiling)
    assert (history.compiling, history.pace, history.eta) == (True, None, None)
    take(iteration(1, seconds=140.0))
    assert (history.compiling, history.pace, history.eta) == (False, None, None)  # a number would be far too large
    take(iteration(2, seconds=0.5), iteration(3, seconds=0.5))
    assert history.pace == 0.5
    assert history.costs.distillation == 141.0  # it was spent all the same
    take(compiling, iteration(4, seconds=90.0), iteration(5, seconds=0.5))  # parts of another size
    assert history.pace == 0.5
    take(compiling, skip(6), iteration(7, seconds=0.8))  # it compiled for an iteration that failed
    assert history.pace == pytest.approx((3 * 0.5 + 0.8) / 4)
    take(compiling, start(resumed=7))
    assert (history.compiling, history.pace) == (False, None)


def test_the_peak_is_of_all_drivers_that_told_theirs() -> None:
    history = RunHistory()
    assert (history.costs.peak_bytes, history.costs.peak_device_bytes) == (None, None)
    drives = [
        RunStopped(reason="asked to stop", iteration=2, peak_bytes=900, peak_device_bytes=None),
        RunStopped(reason="an older version", iteration=3),
        RunFinished(seconds=1.0, peak_bytes=700, peak_device_bytes=50),
    ]
    for event in drives:
        history.see(Entry(seq=0, time=0.0, event=event))
    assert (history.costs.peak_bytes, history.costs.peak_device_bytes) == (900, 50)

"""One journal, five readers: status, screens, studies, tracking and report say the same numbers of it."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import pytest

from engine.events import (
    CheckpointSaved,
    DataReady,
    EvaluationDone,
    Event,
    IterationDone,
    IterationSkipped,
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
)
from engine.runs.journal import JournalWriter, read_journal
from engine.runs.protocol import distilled_protocol, random_protocol
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from engine.tools.studies.members import read_record
from engine.tools.tracking.series import final_numbers
from engine.tools.tracking.tensorboard import log_to_tensorboard
from tesla_tui.report import words
from tesla_tui.report.facts import gather
from tesla_tui.watch.feed import RunFeed
from tests.conftest import TINY

TOTAL = 20


def iteration(number: int, loss: float) -> IterationDone:
    return IterationDone(
        iteration=number, iterations=TOTAL, loss=loss, student_lr=0.01 * number, gradient_norm=loss + 1,
        student_lr_gradient=-loss, trajectory=0, start_epoch=1, seconds=0.25 * number,
    )  # fmt: skip


def skip(number: int) -> IterationSkipped:
    return IterationSkipped(iteration=number, reason="loss not finite", loss=None, consecutive=1)


def evaluation(number: int, mean: float, split: str = "holdout", subject: str = "distilled") -> EvaluationDone:
    accuracies = [mean - 0.01, mean + 0.01]
    return EvaluationDone(
        iteration=number, subject=subject, split=split, network="convnet", mean=mean, std=0.01, accuracies=accuracies,
        seconds=3.0,
    )  # fmt: skip


class Driver:
    """Writes what a driver leaves in a run's folder, without doing its work."""

    def __init__(self, workspace: Workspace, run: Run) -> None:
        self.workspace, self.run = workspace, run

    def start(self, resumed: int | None, *overrides: str) -> None:
        effective: EffectiveSettings = self.workspace.settings(
            overrides=(*TINY, f"distill.iterations={TOTAL}", *overrides), run=self.run
        )
        self.settings = effective.settings
        self.run.folder.mkdir(parents=True, exist_ok=True)
        self.run.freeze(effective)
        self.journal = JournalWriter(self.run.journal_file)
        flat = effective.flat()
        self(RunStarted(run=self.run.name, resumed_from=resumed, settings=flat, environment={"device": "cpu"}))

    def __call__(self, *events: Event) -> None:
        for event in events:
            if isinstance(event, CheckpointSaved):  # only its name is read here
                path = self.run.checkpoint_path(event.iteration)
                path.parent.mkdir(exist_ok=True)
                path.touch()
                path.with_suffix(".json").touch()
            if isinstance(event, EvaluationDone):
                of = random_protocol if event.subject == "random" else distilled_protocol
                evaluate = self.settings.evaluate
                repeats = evaluate.repeats if event.split == "test" else evaluate.selection_repeats
                (self.run.folder / "evaluations").mkdir(exist_ok=True)
                self.run.save_evaluation(event, of(self.settings, repeats))
            self.journal.append(event)

    def die(self) -> None:
        """In the middle of a line."""
        with open(self.run.journal_file, "ab") as file:
            file.write(b'{"schema": 1, "seq": 99, "time": 17')


def checkpoint(number: int) -> CheckpointSaved:
    return CheckpointSaved(iteration=number, path="")


def begin(driver: Driver) -> None:
    """Teachers, then a drive that is killed at iteration 8, of which 5 are saved."""
    driver.start(None)
    driver(
        DataReady(name="digits", classes=10, channels=1, resolution=8, train=9, holdout=9, test=9),
        StageStarted(stage="teachers"),
        TeachersPlanned(buffer="b", count=2, epochs=4, epochs_asked=4, missing=1, bytes=1),
        TeacherEpoch(trajectory=1, epoch=1, epochs=4, loss=2.0, accuracy=0.2, seconds=1.5),
        TeacherPublished(trajectory=1, path=""),
        StageFinished(stage="teachers", seconds=9.0),
        StageStarted(stage="distillation"),
        checkpoint(0),
        evaluation(0, 0.2, subject="random"),
        evaluation(0, 0.25),
        iteration(1, 0.9), iteration(2, 0.8), skip(3), iteration(4, 0.7), iteration(5, 0.6), checkpoint(5),
        evaluation(5, 0.5),
        iteration(6, 0.5), skip(7), iteration(8, 99.0),
    )  # fmt: skip
    driver.die()


def resume(driver: Driver) -> None:
    """From 5: iteration 7 is good this time; then a pause, bad numbers and a recovery, and a stop."""
    driver.start(5)
    driver(
        StageStarted(stage="distillation"),
        iteration(6, 0.5), iteration(7, 0.45), RunPaused(), RunResumed(seconds=5.0), iteration(8, 0.4),
        *[skip(number) for number in range(9, 14)], RunRecovered(iteration=13, student_lr=0.04, recoveries=1),
        iteration(14, 0.35), checkpoint(14), evaluation(14, 0.6),
        RunStopped(reason="asked to stop", iteration=14),
    )  # fmt: skip


def change_protocol(driver: Driver) -> None:
    """From 14 with other evaluations, until the disk is full."""
    driver.start(14, "evaluate.epochs=9")
    driver(
        StageStarted(stage="distillation"),
        evaluation(0, 0.21, subject="random"), evaluation(0, 0.22), evaluation(5, 0.66), evaluation(14, 0.61),
        iteration(15, 0.3), skip(16), iteration(17, 0.2),
        RunFailed(message="no room"),
    )  # fmt: skip


def fail_to_read(driver: Driver) -> None:
    """The checkpoint of 14 is found to be damaged after the start: it goes on from 5."""
    driver.start(14, "evaluate.epochs=9")
    path = driver.run.checkpoint_path(14)
    path.unlink()
    path.with_suffix(".json").unlink()
    driver(*[iteration(number, 1 / number) for number in range(6, 13)])
    driver.die()


def finish(driver: Driver) -> None:
    """To the end."""
    driver.start(5, "evaluate.epochs=9")
    driver(StageStarted(stage="distillation"), *[iteration(n, 1 / n) for n in range(6, TOTAL + 1)], checkpoint(TOTAL))
    driver(evaluation(TOTAL, 0.7), StageFinished(stage="distillation", seconds=1.0), StageStarted(stage="evaluation"))
    driver(evaluation(TOTAL, 0.65, "test"), evaluation(0, 0.3, "test", "random"))
    driver(StageFinished(stage="evaluation", seconds=1.0), RunFinished(seconds=1.0))


STORY = (begin, resume, change_protocol, fail_to_read, finish)


class Expected(NamedTuple):
    state: str
    iteration: int
    skipped: int
    recoveries: int
    losses: list[float]


FIRST = [0.9, 0.8, 0.7, 0.6]
"""Losses of iterations 1, 2, 4 and 5; 3 is skipped."""

EXPECTED = (
    Expected("interrupted", 8, skipped=2, recoveries=0, losses=[*FIRST, 0.5, 99.0]),
    Expected("stopped", 14, skipped=6, recoveries=1, losses=[*FIRST, 0.5, 0.45, 0.4, 0.35]),
    Expected("failed", 17, skipped=7, recoveries=1, losses=[*FIRST, 0.5, 0.45, 0.4, 0.35, 0.3, 0.2]),
    Expected("interrupted", 12, skipped=1, recoveries=0, losses=[*FIRST, *(1 / n for n in range(6, 13))]),
    Expected("finished", 20, skipped=1, recoveries=0, losses=[*FIRST, *(1 / n for n in range(6, 21))]),
)
"""After each chapter of the story, by hand."""


@pytest.mark.parametrize("chapters", range(1, len(STORY) + 1))
def test_all_readers_agree(workspace: Workspace, tmp_path: Path, chapters: int) -> None:
    run = workspace.run("r")
    driver = Driver(workspace, run)
    followed = RunFeed(run)  # sees every chapter as it is written
    for chapter in STORY[:chapters]:
        chapter(driver)
        while followed.poll():
            pass
    fresh = RunFeed(run)
    fresh.catch_up()
    status, record, facts = run_status(run), read_record(run), gather(workspace, run)
    numbers = final_numbers(entry for entry, _ in read_journal(run.journal_file))
    expected = EXPECTED[chapters - 1]

    losses, seconds = expected.losses, spent(run)
    for feed in (followed, fresh):
        view = feed.view
        assert feed.state == status.state == facts.state == expected.state
        assert view.iteration == status.iteration == expected.iteration
        assert view.iterations == status.iterations == TOTAL
        assert view.skipped == status.skipped == record.skipped == expected.skipped
        assert view.recoveries == status.recoveries == expected.recoveries
        assert view.loss.points().mean.tolist() == losses
        assert view.recent_loss == status.loss == pytest.approx(fmean(losses))
        assert view.student_lr.latest == status.student_lr
        assert view.pace == status.seconds_per_iteration
        assert view.costs.peak_bytes == status.peak_bytes
        assert view.teachers_done == status.teachers_done == status.teachers_total == 2
        assert view.failure == ("no room" if status.state == "failed" else "")
        assert [(e.iteration, e.mean) for e in view.held_out()] == record.holdout
        assert [e for e in view.tests() if e.subject == "distilled"] == list(status.test)
        assert [e for e in view.tests() if e.subject == "random"] == list(status.random)
        assert view.costs.iterations.median == record.seconds_per_iteration == median(seconds)
        assert len(view.drives) == chapters
    view = facts.view
    assert (view.iteration, view.skipped, view.recoveries) == (status.iteration, status.skipped, status.recoveries)
    assert facts.selected == status.selected
    assert ("Distillation", f"{words.duration(sum(seconds))} for {len(seconds)} iterations") in words.costs(facts)
    assert {m.result.mean for m in facts.tests} == {e.mean for e in (*status.test, *status.random)}
    assert status.message == "" if status.state != "failed" else "no room" in words.state_words(facts)

    tracked = {name: [n for n in numbers if n.series == f"distillation/{name}"] for name in ("loss", "student_lr")}
    assert [n.value for n in tracked["loss"]] == losses
    assert [(n.step, n.value) for n in tracked["student_lr"]] == record.student_lr
    assert [n.step for n in tracked["loss"]] == view.loss.points().x.tolist()
    for result in view.held_out():
        assert (result.iteration, result.mean) in [(n.step, n.value) for n in numbers if "holdout" in n.series]


@pytest.mark.parametrize("chapters", [2, 4, 5])
def test_tensorboard_agrees(workspace: Workspace, tmp_path: Path, chapters: int) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    driver = Driver(workspace, workspace.run("r"))
    for chapter in STORY[:chapters]:
        chapter(driver)
    list(log_to_tensorboard(driver.run, tmp_path, once=True))
    assert len(list((tmp_path / "r").glob("*.tesla"))) == 1  # several could be read in another order
    reader = accumulators.EventAccumulator(str(tmp_path / "r"), size_guidance={"scalars": 0})
    reader.Reload()
    numbers = final_numbers(entry for entry, _ in read_journal(driver.run.journal_file))
    for name in {number.series for number in numbers if number.trajectory is None}:
        written = {event.step: event.value for event in reader.Scalars(name)}  # of one step, the later counts
        assert written == {n.step: pytest.approx(n.value) for n in numbers if n.series == name}, name


def spent(run: Run) -> list[float]:
    """Seconds of every iteration in the journal, lost or not."""
    return [e.event.seconds for e, _ in read_journal(run.journal_file) if isinstance(e.event, IterationDone)]


def test_a_run_whose_test_is_lost_is_to_be_driven_again(workspace: Workspace) -> None:
    run = workspace.run("r")
    driver = Driver(workspace, run)
    for chapter in STORY:
        chapter(driver)
    (path,) = (run.folder / "evaluations").glob("*-test-distilled-*.json")
    path.unlink()
    feed = RunFeed(run)
    feed.catch_up()
    assert run_status(run).state == "stopped"  # `tesla run` measures it again
    assert feed.state == "finished" and feed.view.tests()  # the journal still has it


LOST: tuple[Callable[[Path], object], ...] = (Path.unlink, lambda path: path.write_bytes(b""))


@pytest.mark.parametrize("lose", LOST)
def test_without_a_journal_the_checkpoints_tell(workspace: Workspace, lose: Callable[[Path], object]) -> None:
    run = workspace.run("r")
    driver = Driver(workspace, run)
    begin(driver)
    lose(run.journal_file)
    feed = RunFeed(run)
    feed.catch_up()
    status = run_status(run)
    assert feed.view.iteration == status.iteration == 5 and feed.state == status.state == "stopped"
    assert feed.view.checkpoints == 5

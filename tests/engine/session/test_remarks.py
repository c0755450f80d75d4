"""What a session says about its own numbers, and how a run without an update ends."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import DivergedError
from engine.events import EvaluationDone, IterationDone, Notice, RunFinished
from engine.matching import MatchingGradient
from engine.methods import peer_loop
from engine.methods import tesla as distillation
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.session import evaluations
from tests.conftest import Drive
from tests.runs import events

FAILED = "No update was applied"


def about(run: Run, what: str) -> list[str]:
    return [notice.message for notice in events(run, Notice) if notice.about == what]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`faked(loss=..., student_lr=...)`: every matching gradient from now on has these."""
    real = distillation.matching_sweeps

    def fake(loss: float | None = None, student_lr: float | None = None, images: float = 1.0) -> None:
        def sweeps(*args: Any, **kwargs: Any) -> Any:
            found = yield from real(*args, **kwargs)
            return MatchingGradient(
                found.loss if loss is None else torch.tensor(loss),
                found.images * images,
                found.labels,
                found.student_lr if student_lr is None else torch.tensor(student_lr),
            )

        monkeypatch.setattr(distillation, "matching_sweeps", sweeps)

    return fake


def test_a_loss_that_stays_near_one_is_told_once(tiny_run: Drive, faked: Any) -> None:
    faked(loss=0.97)
    settings = ("distill.iterations=24", "evaluate.every=100")
    whole = tiny_run("whole", *settings)
    (words,) = about(whole, "matching loss")
    assert "last 24 iterations is 0.97 on average" in words and "teachers.batch" in words
    # Stopped before it is due, and after it was given: the same, once.
    stopped = tiny_run("stopped", *settings, until=lambda e: isinstance(e, IterationDone) and e.iteration == 20)
    assert not about(stopped, "matching loss")
    tiny_run("stopped", *settings)
    tiny_run("stopped", "distill.iterations=40", "evaluate.every=100")
    assert about(stopped, "matching loss") == [words]


def test_a_loss_that_falls_is_not_told(tiny_run: Drive, faked: Any) -> None:
    faked(loss=0.9)
    assert not about(tiny_run("r", "distill.iterations=24", "evaluate.every=100"), "matching loss")


@pytest.mark.parametrize(("gradient", "words"), [(1e9, "times below"), (-1e9, "times above")])
def test_a_student_lr_learned_far_away_is_told_once(tiny_run: Drive, faked: Any, gradient: float, words: str) -> None:
    faked(student_lr=gradient)  # a factor of exp(0.1) an iteration
    settings = ("distill.iterations=26", "evaluate.every=100")
    run = tiny_run("r", *settings, until=lambda e: isinstance(e, IterationDone) and e.iteration == 25)
    tiny_run("r", *settings)
    (told,) = about(run, "student_lr")
    assert f"11 {words} distill.student_lr = " in told or f"10 {words}" in told


def test_a_single_skipped_iteration_is_no_run(tiny_run: Drive) -> None:
    settings = ("distill.iterations=1", "distill.max_loss=1e-6")
    for _ in range(2):  # the same again when it is resumed
        with pytest.raises(DivergedError, match=rf"{FAILED}: its only iteration was skipped \(distill\.max_loss: 1\)"):
            tiny_run("r", *settings)
    for path in Run(tiny_run("other", "distill.iterations=1").folder.parent / "r").folder.glob("checkpoints/0000000.*"):
        path.unlink()  # as a user may: then the journal alone is asked
    with pytest.raises(DivergedError, match=FAILED):
        tiny_run("r", *settings)
    run = tiny_run("other", "distill.iterations=1")  # the same iteration, not skipped
    assert events(run, RunFinished)
    failed = run_status(Run(run.folder.parent / "r"))
    assert failed.state == "failed" and FAILED in failed.message and not failed.test


def test_a_run_with_one_update_is_a_run(tiny_run: Drive, faked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = distillation.problem, []

    def problem(*args: Any) -> str:
        calls.append(1)
        return real(*args) if len(calls) == 3 else "loss not finite"

    monkeypatch.setattr(distillation, "problem", problem)
    run = tiny_run("r", "distill.iterations=4")
    assert run_status(run).state == "finished" and run_status(run).skipped == 3


@pytest.mark.parametrize(
    "settings", [("distill.lr_images=1e-30", "distill.lr_student_lr=0"), ("distill.lr_images=1e-30",)]
)
def test_images_that_never_change(tiny_run: Drive, settings: tuple[str, ...]) -> None:
    if len(settings) == 1:  # student_lr was learned: an update
        assert run_status(tiny_run("r", *settings)).state == "finished"
        return
    with pytest.raises(DivergedError, match=r"are those of the start.*larger distill\.lr_images"):
        tiny_run("r", *settings)


def test_a_gradient_of_zero(tiny_run: Drive, faked: Any) -> None:
    faked(images=0.0, student_lr=0.0)
    with pytest.raises(DivergedError, match="Their gradient is zero"):
        tiny_run("r")


def test_a_peer_without_an_update(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_loop, "math", SimpleNamespace(isfinite=lambda value: False))
    with pytest.raises(DivergedError, match="all 3 iterations were skipped"):
        tiny_run("r", "distill.method=dm", "distill.iterations=3")


@pytest.mark.parametrize("settings", [("distill.iterations=0",), ("distill.method=random", "distill.iterations=0")])
def test_no_iterations_are_no_failure(tiny_run: Drive, settings: tuple[str, ...]) -> None:
    run = tiny_run("r", *settings)
    status = run_status(run)
    assert status.state == "finished" and not status.unimproved
    assert {outcome.kind for outcome in status.outcomes} <= {"gained", "none", "worse"}


def test_an_untouched_checkpoint_is_no_gain(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    real = evaluations.evaluate

    def worse_later(*args: Any) -> Any:
        for event in real(*args):
            if isinstance(event, EvaluationDone) and event.subject == "distilled":
                mean = 0.9 - event.iteration / 100 if event.split == "holdout" else 0.95
                event = replace(event, mean=mean, std=0.001, accuracies=[mean - 0.001, mean + 0.001])
            yield event

    monkeypatch.setattr(evaluations, "evaluate", worse_later)
    run = tiny_run("r")
    status = run_status(run)
    assert status.selected == 0 and status.unimproved
    assert [outcome.kind for outcome in status.outcomes] == ["unimproved"]
    assert events(run, RunFinished)[-1].outcome.startswith("No improvement found")
    assert math.isclose(status.test[0].mean, 0.95)

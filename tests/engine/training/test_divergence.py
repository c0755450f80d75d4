"""Numbers going wrong: nothing bad is applied or saved, the policy is followed, and its bits survive a resume."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from engine.errors import CorruptFileError, DivergedError
from engine.events import EvaluationDone, Event, IterationDone, IterationSkipped, Notice, RunFailed, RunRecovered
from engine.matching import MatchingGradient
from engine.methods import tesla as distillation
from engine.methods.tesla_state import MOST_LEARNED, DistillState, outcome, update
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.finite import non_finite
from engine.settings import resolve_settings
from engine.storage.atomic import write_tensors
from engine.training.divergence import WINDOW, DivergenceMonitor, Numbers, problem, teacher_problem
from engine.training.teacher_buffer import TeacherBuffer
from tests.engine.faulty import CUE
from tests.runs import events, newest

RunIt = Callable[..., Run]

FAULTY = (
    "network.name=tests.engine.faulty:network", "distill.steps=2", "distill.iterations=44",
    "distill.checkpoint_every=22", "distill.keep=1", "evaluate.every=1000", "distill.lr_images=1",
)  # fmt: skip
SPELL = range(25, 37)
"""Twelve bad iterations in a row: skipped, shrunk at 29, rolled back at 34."""


def same_bits(a: Run, b: Run) -> bool:
    x, y = newest(a), newest(b)
    return max(a.checkpoints()) == max(b.checkpoints()) and all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.slow
def test_skip_shrink_roll_back_and_the_same_bits_after_a_stop_anywhere(tiny_run: RunIt) -> None:
    whole = tiny_run("whole", *FAULTY, until=CUE.follow(SPELL))
    assert [e.iteration for e in events(whole, IterationSkipped)] == list(SPELL)
    assert {e.reason for e in events(whole, IterationSkipped)} == {
        "loss and image gradient and student_lr gradient and student_lr momentum and updated images not finite"
    }
    recovered = events(whole, RunRecovered)
    assert [(e.iteration, e.rolled_back_to) for e in recovered] == [(29, None), (34, 22)]
    before = {e.iteration: e.student_lr for e in events(whole, IterationDone)}
    assert recovered[0].student_lr == pytest.approx(before[24] / 2)
    assert recovered[1].student_lr == pytest.approx(before[22] / 4)
    for stop in (26, 29, 33, 34, 35, 40):
        follower = CUE.follow(SPELL)

        def until(event: Event, follower: Any = follower, stop: int = stop) -> bool:
            follower(event)
            return isinstance(event, IterationDone | IterationSkipped) and event.iteration == stop

        stopped = tiny_run(f"stopped-{stop}", *FAULTY, until=until)
        saved, counters = stopped.load_checkpoint(stop)
        assert non_finite(saved) == []
        assert counters["skipped"] == {26: 2, 29: 0, 33: 4, 34: 0, 35: 1, 40: 0}[stop]
        if stop in (34, 35):
            assert torch.equal(saved["images"], stopped.load_checkpoint(22)[0]["images"])
            assert not saved["velocity_images"].any()
        tiny_run(f"stopped-{stop}", *FAULTY, until=CUE.follow(SPELL))
        assert same_bits(stopped, whole)


@pytest.mark.slow
def test_spells_far_apart_do_not_add_up_to_a_stop(tiny_run: RunIt) -> None:
    # Nine spells of five; each is followed by a good stretch and a checkpoint.
    spells = [range(30 * i + 25, 30 * i + 30) for i in range(9)]
    bad = {i for spell in spells for i in spell}
    run = tiny_run("r", *FAULTY, "distill.iterations=300", "distill.checkpoint_every=5", until=CUE.follow(bad))
    assert [e.recoveries for e in events(run, RunRecovered)] == [1] * 9
    assert max(run.checkpoints()) == 300


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words", "way_out"),
    [
        (("distill.lr_images=1e30",), "a pixel would reach", "smaller distill.lr_images"),
        (("distill.lr_images=3e38", "distill.momentum=0.9"), "updated images not finite|a pixel", "distill.lr_images"),
        (("distill.student_lr=1e12", "distill.lr_student_lr=1"), "not finite|matching loss above", "student_lr"),
    ],
)
def test_updates_that_would_overflow_are_never_made(
    tiny_run: RunIt, workspace: Workspace, overrides: tuple[str, ...], words: str, way_out: str
) -> None:
    settings = ("distill.iterations=60", "evaluate.every=100", "distill.checkpoint_every=7", *overrides)
    with pytest.raises(DivergedError, match=words) as caught:
        tiny_run("r", *settings)
    run = workspace.run("r")
    assert way_out in caught.value.hint
    assert events(run, RunFailed)[0].message.startswith(caught.value.message)
    assert torch.equal(newest(run)["images"], run.load_checkpoint(0)[0]["images"])
    for iteration in run.checkpoints():
        assert non_finite(run.load_checkpoint(iteration)[0]) == []


def test_the_outcome_is_that_of_the_update() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    settings = resolve_settings(
        overrides=["labels.kind=learned", "labels.lr=3", "distill.lr_images=7", "distill.momentum=0.6"]
    ).settings
    images, logits, logit_gradient = draw(6, 3, 4, 4), draw(6, 5), draw(6, 5)
    state = DistillState(images, torch.tensor(0.01).double(), logits, draw(6, 3, 4, 4), draw(), draw(6, 5))
    gradient = MatchingGradient(torch.tensor(1.0), draw(6, 3, 4, 4), draw(6, 5), draw())
    pixel, logit, velocity = outcome(state, gradient, logit_gradient, settings)
    update(state, gradient, logit_gradient, settings)
    assert pixel == images.abs().max()
    assert logit == logits.abs().max()
    assert velocity == state.velocity_student_lr
    gradient.images[3, 1, 2, 2] = math.nan
    assert torch.isnan(outcome(state, gradient, logit_gradient, settings)[0])


def numbers(loss: float = 0.5, norm: float = 1.0, **others: float) -> Numbers:
    return Numbers(**{"loss": loss, "norm": norm, "lr_gradient": 0.0, "pixel": 1.0, "logit": 0.0, "lr_velocity": 0.0,
                      **others})  # fmt: skip


@pytest.mark.parametrize("name", ["loss", "norm", "lr_gradient", "pixel", "logit", "lr_velocity"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_number_must_be_finite(name: str, value: float) -> None:
    settings = resolve_settings().settings
    assert problem(numbers(), DivergenceMonitor(), settings) == ""
    assert problem(numbers(**{name: value}), DivergenceMonitor(), settings).endswith("not finite")


def test_a_jump_is_measured_against_what_is_usual() -> None:
    settings, health = resolve_settings().settings, DivergenceMonitor()
    jump = numbers(norm=1e6)
    for _ in range(WINDOW):
        assert problem(jump, health, settings) == ""  # nothing is usual yet
        health.accept(numbers())
    assert "image gradient 1e+06 times the usual" in problem(jump, health, settings)
    assert "matching loss 2e+03 times" in problem(numbers(loss=1.0, norm=0.0), small(health), settings)
    health.recover()
    assert problem(jump, health, settings) == ""


def small(health: DivergenceMonitor) -> DivergenceMonitor:
    return DivergenceMonitor(**{**asdict(health), "loss": 0.0005})


def test_health_survives_json_and_older_records() -> None:
    health = DivergenceMonitor()
    for i in range(30):
        health.accept(numbers(loss=0.1 * i, norm=1 / (1 + i)))
    health.mark(30)
    again = DivergenceMonitor.of({"iteration": 30, **json.loads(json.dumps(health.record()))})
    assert again == health
    assert DivergenceMonitor.of({"iteration": 7, "skipped": 0, "recoveries": 2}) == DivergenceMonitor(
        recoveries=2, good=7
    )
    assert DivergenceMonitor.of({"iteration": 7, "skipped": 3, "recoveries": 0}).good == 0


def crept(monkeypatch: pytest.MonkeyPatch, losses: Callable[[], float]) -> None:
    """The matching loss is what `losses` says; its gradient is the real one."""
    real = distillation.matching_sweeps

    def sweeps(*args: Any, **kwargs: Any) -> Any:
        result = yield from real(*args, **kwargs)
        return MatchingGradient(torch.tensor(losses()), result.images, result.labels, result.student_lr)

    monkeypatch.setattr(distillation, "matching_sweeps", sweeps)


@pytest.mark.slow
def test_a_loss_that_creeps_up_is_rolled_back_to_the_same_bits(
    tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"iteration": 0}
    crept(monkeypatch, lambda: 0.5 if now["iteration"] <= 30 else 0.5 * 1.06 ** (now["iteration"] - 30))

    def watch(stop: int = 0) -> Callable[[Event], bool]:
        def until(event: Event) -> bool:
            if isinstance(event, IterationDone | IterationSkipped):
                now["iteration"] = event.iteration + 1
                return event.iteration == stop
            return False

        return until

    settings = (*FAULTY, "distill.iterations=60", "distill.checkpoint_every=25")
    now["iteration"] = 1
    whole = tiny_run("whole", *settings, until=watch())
    recovered = events(whole, RunRecovered)
    assert recovered[0].rolled_back_to == 50
    at = recovered[0].iteration
    assert not events(whole, IterationSkipped)  # no single loss was above max_loss
    assert any("rose slowly to" in e.message for e in events(whole, Notice))
    now["iteration"] = 1
    stopped = tiny_run("stopped", *settings, until=watch(at))
    saved = stopped.load_checkpoint(at)[0]
    assert torch.equal(saved["images"], stopped.load_checkpoint(50)[0]["images"])
    tiny_run("stopped", *settings, until=watch())
    assert same_bits(stopped, whole)


@pytest.mark.slow
def test_student_lr_is_not_learned_to_nothing(tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = distillation.matching_sweeps

    def sweeps(*args: Any, **kwargs: Any) -> Any:
        result = yield from real(*args, **kwargs)
        return MatchingGradient(result.loss, result.images, result.labels, torch.tensor(1e9))

    monkeypatch.setattr(distillation, "matching_sweeps", sweeps)
    run = tiny_run("r", *FAULTY, "distill.iterations=80")
    rates = [e.student_lr for e in events(run, IterationDone)]
    assert rates[-1] == pytest.approx(0.01 / MOST_LEARNED)
    assert sum("is held there" in e.message for e in events(run, Notice)) == 1


def test_a_halved_student_lr_below_the_least_is_not_pulled_up() -> None:
    settings = resolve_settings().settings
    zero = torch.zeros(1, 1, 2, 2)
    state = DistillState(zero, torch.tensor(1e-7), None, zero.clone(), torch.tensor(0.0), None)
    update(state, MatchingGradient(torch.tensor(1.0), zero, zero, torch.tensor(0.0)), None, settings)
    assert float(state.student_lr) == pytest.approx(1e-7)
    update(state, MatchingGradient(torch.tensor(1.0), zero, zero, torch.tensor(-1.0)), None, settings)
    assert float(state.student_lr) > 1e-7


@pytest.mark.slow
def test_a_diverged_teacher_is_not_published(tiny_run: RunIt, workspace: Workspace) -> None:
    with pytest.raises(DivergedError, match=r"Teacher 0 .* diverged in epoch 1") as caught:
        tiny_run("r", "teachers.lr=1e20")
    assert "teachers.lr (now 1e+20)" in caught.value.hint
    assert list((workspace.folder / "buffers").glob("*/*.safetensors")) == []
    again = tiny_run("other", "teachers.lr=0.01")  # what the hint says works
    assert max(again.checkpoints()) == 6


@pytest.mark.parametrize(
    ("losses", "bad"),
    [
        ([2.2, 1.5, 0.9], False),
        ([2.35, 2.31, 2.304], False),  # slow, not diverged
        ([3.9, 2.0], False),  # a rough start
        ([2.2, math.nan], True),
        ([2.2, math.inf], True),
        ([2.2, 700.0], True),
        ([1.5, 2.31], True),  # fell back to guessing
        ([], False),  # an imported buffer says nothing
    ],
)
def test_what_counts_as_a_diverged_teacher(losses: list[float], bad: bool) -> None:
    assert bool(teacher_problem(losses, classes=10)) == bad


def rewritten(run: Run, epoch: int, value: float, loss: float = 1.0) -> None:
    """Publish trajectory 0 again with one number of one snapshot replaced, checksums and all."""
    folder = next((run.folder.parents[1] / "buffers").iterdir())
    buffer = TeacherBuffer(folder, {})
    record = buffer.record(0)
    assert record is not None
    rows = buffer.read(0, *range(record.rows))
    rows[epoch][5] = value
    buffer.path(0).unlink()
    buffer.path(0).with_suffix(".json").unlink()
    buffer.forget(0)
    writer = buffer.begin(0, record.parameters)
    for number, row in enumerate(rows):
        writer.append(row, loss if number else None, 0.5 if number else None)
    writer.publish()


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_published_snapshot_that_is_not_finite_is_refused_by_name(
    tiny_run: RunIt, workspace: Workspace, value: float
) -> None:
    rewritten(tiny_run("first"), 1, value)
    with pytest.raises(DivergedError, match=r"trajectory-0000.safetensors: the snapshot of epoch 1 .* not finite"):
        tiny_run("second", "distill.iterations=40")
    run = workspace.run("second")
    assert non_finite(newest(run)) == []


def test_a_published_teacher_worse_than_guessing_is_refused(tiny_run: RunIt) -> None:
    rewritten(tiny_run("first"), 1, 0.0, loss=9.0)
    with pytest.raises(DivergedError, match=r"Teacher 0 .* in epoch 1 \(loss 9, guessing has 2.3\)"):
        tiny_run("second")


def test_an_evaluation_that_diverges_is_told_and_counts_as_guessing(tiny_run: RunIt, workspace: Workspace) -> None:
    with pytest.raises(DivergedError):
        tiny_run("r", *FAULTY, "distill.iterations=60", "distill.student_lr=1e30")
    run = workspace.run("r")
    assert any("diverged in training at a learning rate of 1e+30" in e.message for e in events(run, Notice))
    done = [e for e in events(run, EvaluationDone) if e.subject == "distilled"]
    assert [e.iteration for e in done] == [0]
    assert 0.05 < done[0].mean < 0.15
    for path in (run.folder / "evaluations").iterdir():
        json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word))


@pytest.mark.slow
def test_a_checkpoint_never_has_a_number_that_is_not_finite(tiny_run: RunIt) -> None:
    run = tiny_run("r")
    tensors, record = run.load_checkpoint(6)
    del record["sha256"]
    bad = {**tensors, "images": tensors["images"].clone()}
    bad["images"][1, 0, 3, 3] = math.nan
    with pytest.raises(DivergedError, match="images of iteration 9"):
        run.save_checkpoint(bad, {**record, "iteration": 9})
    assert 9 not in run.checkpoints()
    write_tensors(run.checkpoint_path(9), bad, {**record, "iteration": 9})  # by a version that did not look
    with pytest.raises(CorruptFileError, match="not finite"):
        run.load_checkpoint(9)
    found = run.newest_valid()
    assert found is not None
    assert found[1]["iteration"] == 6
    tiny_run("r", "distill.iterations=12")
    assert any("0000009" in e.message for e in events(run, Notice))
    assert non_finite(newest(run)) == []

"""TESLA: labels, draws, the update, and bad iterations; on the embedded digits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.errors import DivergedError
from engine.events import (
    IterationDone,
    IterationSkipped,
    Progress,
    RunRecovered,
)
from engine.matching import MatchingGradient
from engine.methods import tesla as distillation
from engine.methods.draws import draw_iteration
from engine.methods.tesla import matching_gradient_of
from engine.methods.tesla_labels import export_labels
from engine.methods.tesla_state import DistillState, initial_state, update
from engine.networks import flatten_parameters
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.training import labels as label_rules
from engine.training import real_images as selection
from engine.training.labels import labelling
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import TINY
from tests.live_bytes import LiveBytes
from tests.runs import newest

RunIt = Callable[..., Run]

AT = Progress(stage="evaluation", done=0, total=1, unit="networks")


def opened(workspace: Workspace, *overrides: str) -> tuple[Task, TeacherBuffer]:
    """A task and its buffer, without a run."""
    return run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *overrides]).settings))


def test_learned_labels_move_and_stay_probabilities(tiny_run: RunIt) -> None:
    run = tiny_run("a", "labels.kind=learned", "labels.lr=100")
    before, after = run.load_checkpoint(0)[0]["logits"], newest(run)["logits"]
    assert before.max() == 10
    assert not torch.equal(before, after)


def test_learned_label_gradient_is_the_chain_through_softmax(
    workspace: Workspace, tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_run("teachers", "labels.kind=learned", "compute.dtype=float64")
    task, buffer = opened(workspace, "labels.kind=learned", "compute.dtype=float64")
    state = initial_state(task)
    assert state.logits is not None
    state.logits.mul_(0.1)  # away from saturation
    from engine.matching import EagerSteps

    draw = draw_iteration(task, 0)
    gradient, logit_gradient = run_to_end(
        matching_gradient_of(task, EagerSteps(task.flat_network()), buffer, state, draw, "auto")
    )
    assert logit_gradient is not None
    logits = state.logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(logits.softmax(dim=1), logits, grad_outputs=gradient.labels)
    assert torch.allclose(logit_gradient, expected, atol=1e-14)


@pytest.mark.slow
def test_shipped_target_labels_are_the_mean_over_teachers_and_epochs(workspace: Workspace, tiny_run: RunIt) -> None:
    tiny_run("teachers", "labels.kind=target")
    task, buffer = opened(workspace, "labels.kind=target")
    state = initial_state(task)
    network = task.flat_network()
    naive = torch.stack(
        [run_to_end(labelling(network, buffer.read(t, e)[0], state.images)) for t in (0, 1) for e in (1, 2)]
    ).mean(dim=0)
    found = run_to_end(export_labels(task, buffer, state, AT))
    assert torch.allclose(found, naive, atol=1e-6)
    assert torch.allclose(found.sum(dim=1), torch.ones(10))
    state.iteration = 5  # which teacher the last iteration drew does not matter
    assert torch.equal(run_to_end(export_labels(task, buffer, state, AT)), found)


def test_labels_in_chunks_are_those_of_one_pass_and_are_held_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = opened(workspace, "distill.ipc=7")
    state = initial_state(task)
    network = task.flat_network()
    theta = flatten_parameters(task.fresh_network(0))
    whole = network(theta, state.images).softmax(dim=1)
    monkeypatch.setattr(label_rules, "CHUNK_PIXELS", 12 * 8 * 8)
    with LiveBytes() as counter:
        found = run_to_end(labelling(network, theta, state.images))
    assert torch.allclose(found, whole, atol=1e-6)
    # A pass over 12 of 70 images, at width 4: about five tensors of its first layer.
    assert counter.peak < found.nbytes + 5 * 12 * 4 * 8 * 8 * 4 + 2 * theta.nbytes
    hard = label_rules.hard_labels(torch.tensor([2, 0]), 3, torch.float64)
    assert hard.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_first_images_are_encoded_in_chunks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = opened(workspace, "distill.ipc=3")
    index = selection.random_real(task, 3, "init-real")
    whole = task.train.images.encoded(index)
    monkeypatch.setattr(selection, "CHUNK", 7)
    assert torch.equal(selection.real_images(task, index), whole)


def test_an_iteration_depends_on_its_number_alone(workspace: Workspace) -> None:
    task, _ = opened(workspace, "distill.batch=4", "distill.steps=6")
    first, again, other = draw_iteration(task, 7), draw_iteration(task, 7), draw_iteration(task, 8)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first.schedule, again.schedule, strict=True))
    assert any(
        not torch.equal(a[0], b[0])
        for a, b in zip(first.schedule, other.schedule, strict=True)
        if len(a[0]) == len(b[0])
    )
    # A permutation of all ten images is used up (4 + 4 + 2) before the next one is drawn.
    assert sorted(torch.cat([index for index, _ in first.schedule[:3]]).tolist()) == list(range(10))
    assert [len(index) for index, _ in first.schedule] == [4, 4, 2, 4, 4, 2]
    draws = [draw_iteration(task, i) for i in range(60)]
    assert {d.start_epoch for d in draws} == {0, 1}
    assert {d.trajectory for d in draws} == {0, 1}


def state_with(student_lr: float) -> DistillState:
    zero = torch.zeros(1, 1, 2, 2)
    return DistillState(zero.clone(), torch.tensor(student_lr), None, zero.clone(), torch.tensor(0.0), None)


@pytest.mark.parametrize("gradient", [1e30, -1e30, 1e3, -1e3])
def test_student_lr_stays_positive_and_finite(gradient: float) -> None:
    settings = resolve_settings(overrides=["distill.lr_student_lr=1"]).settings
    state = state_with(0.01)
    zero = torch.zeros(1, 1, 2, 2)
    for _ in range(200):
        update(state, MatchingGradient(torch.tensor(1.0), zero, zero, torch.tensor(gradient)), None, settings)
        assert 0 < float(state.student_lr) < float("inf")


def test_small_steps_of_student_lr_are_the_published_ones() -> None:
    settings = resolve_settings(overrides=["distill.lr_student_lr=1e-7", "distill.momentum=0.5"]).settings
    state, plain, velocity = state_with(0.01), 0.01, 0.0
    zero = torch.zeros(1, 1, 2, 2)
    for gradient in (3.0, -2.0, 5.0):
        update(state, MatchingGradient(torch.tensor(1.0), zero, zero, torch.tensor(gradient)), None, settings)
        velocity = 0.5 * velocity + gradient
        plain -= 1e-7 * velocity
    assert float(state.student_lr) == pytest.approx(plain, rel=1e-6)


def poisoned(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool], loss: float) -> None:
    """Make the matching loss of chosen calls bad, as an exploding student does."""
    real = distillation.matching_sweeps
    calls = iter(range(10**6))

    def sweeps(*args: Any, **kwargs: Any) -> Any:
        result = yield from real(*args, **kwargs)
        if not bad(next(calls)):
            return result
        return MatchingGradient(torch.tensor(loss), result.images, result.labels, result.student_lr)

    monkeypatch.setattr(distillation, "matching_sweeps", sweeps)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 11.0])
def test_a_bad_iteration_is_skipped_before_the_update(
    tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    good = tiny_run("good", "distill.iterations=2")
    poisoned(monkeypatch, lambda call: call == 2, loss)
    run = tiny_run("bad", "distill.iterations=3")
    assert torch.equal(newest(run)["images"], newest(good)["images"])
    events = [e.event for e, _ in read_journal(run.journal_file)]
    skipped = [e for e in events if isinstance(e, IterationSkipped)]
    assert [e.iteration for e in skipped] == [3]
    assert ("not finite" in skipped[0].reason) != ("distill.max_loss" in skipped[0].reason)


@pytest.mark.slow
def test_many_bad_iterations_shrink_student_lr_and_the_run_goes_on(
    tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, lambda call: call < 5, 99.0)
    run = tiny_run("r", "distill.iterations=7")
    recovered = [e.event for e, _ in read_journal(run.journal_file) if isinstance(e.event, RunRecovered)]
    assert [e.student_lr for e in recovered] == [pytest.approx(0.005)]
    assert sum(isinstance(e.event, IterationDone) for e, _ in read_journal(run.journal_file)) == 2


@pytest.mark.slow
def test_a_run_that_cannot_recover_stops_with_words(
    tiny_run: RunIt, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, lambda call: True, float("nan"))
    with pytest.raises(DivergedError, match="halved 8 times"):
        tiny_run("r", "distill.iterations=60", "evaluate.every=100", "distill.checkpoint_every=100")
    # The images of the start are still there, untouched.
    run = workspace.run("r")
    assert torch.equal(newest(run)["images"], run.load_checkpoint(0)[0]["images"])

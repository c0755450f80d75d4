"""Runs: bit-exact resume, recovery, labels, selection; through the session, on the embedded digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import BusyError, CorruptFileError, DivergedError, UsageError
from engine.events import (
    EvaluationDone,
    Event,
    IterationDone,
    IterationSkipped,
    Notice,
    Progress,
    RunRecovered,
    RunStarted,
    RunStopped,
    TeacherEpoch,
)
from engine.matching import MatchingGradient
from engine.methods import tesla as distillation
from engine.methods.draws import draw_iteration
from engine.methods.tesla import matching_gradient_of
from engine.methods.tesla_labels import export_labels
from engine.methods.tesla_state import DistillState, initial_state, update
from engine.networks import flatten_parameters
from engine.runs.journal import read_journal
from engine.runs.preview_frames import frame_path
from engine.runs.run import Run, selected_iteration
from engine.runs.workspace import Workspace, acquire_run
from engine.runtime.generators import run_to_end
from engine.session import evaluations as assessments
from engine.session.open_task import open_task
from engine.session.session import drive
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


def assert_same_bits(a: Run, b: Run) -> None:
    assert max(a.checkpoints()) == max(b.checkpoints())
    x, y = newest(a), newest(b)
    assert x.keys() == y.keys()
    assert all(torch.equal(x[name], y[name]) for name in x)
    strip = {"seconds": 0.0}
    results = [[{**vars(r), **strip} for r in run.evaluations()] for run in (a, b)]
    assert results[0] == results[1]


def opened(workspace: Workspace, *overrides: str) -> tuple[Task, TeacherBuffer]:
    """A task and its buffer, without a run."""
    return run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *overrides]).settings))


def test_a_run_goes_from_data_to_a_test_accuracy(tiny_run: RunIt) -> None:
    run = tiny_run()
    kinds = [(r.subject, r.split, r.iteration) for r in run.evaluations()]
    assert ("random", "test", 0) in kinds
    assert sum(split == "test" and subject == "distilled" for subject, split, _ in kinds) == 1
    assert {it for subject, split, it in kinds if split == "holdout"} == {0, 3, 6}
    assert frame_path(run.film, 6).exists()
    assert max(run.checkpoints()) == 6
    names = [type(entry.event).__name__ for entry, _ in read_journal(run.journal_file)]
    assert names[0] == "RunStarted"
    assert names[-1] == "RunFinished"
    assert names.count("IterationDone") == 6
    assert names.count("TeacherEpoch") == 4
    state = newest(run)
    assert state["images"].shape == (10, 1, 8, 8)
    assert float(state["student_lr"]) > 0


def test_two_runs_are_the_same_bits_and_the_images_moved(tiny_run: RunIt) -> None:
    a, b = tiny_run("a"), tiny_run("b")
    assert_same_bits(a, b)
    assert not torch.equal(a.load_checkpoint(0)[0]["images"], newest(a)["images"])


def stop_at_iteration(number: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, IterationDone) and event.iteration == number


def in_the_middle(stage: str, share: float) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Progress) and event.stage == stage and event.done >= share


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [
        stop_at_iteration(1),
        stop_at_iteration(3),
        stop_at_iteration(5),
        in_the_middle("distillation", 2.4),
        in_the_middle("evaluation", 0.5),
        in_the_middle("teachers", 1.3),
        in_the_middle("teachers", 2.6),
        lambda event: isinstance(event, TeacherEpoch),
    ],
)
def test_stopped_anywhere_and_resumed_gives_the_same_bits(tiny_run: RunIt, stop: Callable[[Event], bool]) -> None:
    # Runs of one workspace share teachers: the stopped run trains them (in part), the other takes what is there.
    stopped = tiny_run("stopped", until=stop)
    assert isinstance(list(read_journal(stopped.journal_file))[-1][0].event, RunStopped)
    tiny_run("stopped")
    whole = tiny_run("whole")
    assert_same_bits(stopped, whole)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_teachers_stopped_in_mid_epoch_are_the_same_bits(tmp_path: Path, dtype: str) -> None:
    buffers = []
    for name in ("whole", "stopped"):
        workspace = Workspace.create(tmp_path / name, resolve_settings(), set())
        run = workspace.run("r")
        effective = workspace.settings(overrides=(*TINY, f"compute.dtype={dtype}"), run=run)
        if name == "stopped":
            for share in (0.3, 1.6, 3.2):
                events = drive(workspace, run, effective)
                for event in events:
                    if isinstance(event, Progress) and event.stage == "teachers" and event.done >= share:
                        break
                events.close()
                assert list((workspace.folder / "buffers").glob("*/*.position.safetensors"))
        for _ in drive(workspace, run, effective):
            pass
        buffers.append(next((workspace.folder / "buffers").iterdir()))
    for number in range(2):
        name = f"trajectory-{number:04d}.safetensors"
        assert (buffers[0] / name).read_bytes() == (buffers[1] / name).read_bytes()
    left = [path.name for path in buffers[1].iterdir() if "part" in path.name or "position" in path.name]
    assert left == []


def test_snapshots_are_copies_and_rows_are_checked(tiny_run: RunIt) -> None:
    run = tiny_run()
    folder = next((run.folder.parents[1] / "buffers").iterdir())
    buffer = TeacherBuffer(folder, {})
    rows = buffer.read(0, 0, 1, 2)
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])
    path = buffer.path(0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert torch.equal(TeacherBuffer(folder, {}).read(0, 0)[0], rows[0])  # the damage is in the last row
    with pytest.raises(CorruptFileError, match="epoch 2"):
        TeacherBuffer(folder, {}).read(0, 2)


@pytest.mark.slow
def test_more_epochs_extend_the_same_trajectories(tiny_run: RunIt) -> None:
    run = tiny_run("short")
    folder = next((run.folder.parents[1] / "buffers").iterdir())
    before = TeacherBuffer(folder, {}).read(1, 0, 1, 2)
    tiny_run("long", "distill.max_start_epoch=3")
    after = TeacherBuffer(folder, {})
    assert after.epochs(1) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, after.read(1, 0, 1, 2), strict=True))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(tiny_run: RunIt) -> None:
    tiny_run("whole")
    run = tiny_run("hurt", until=stop_at_iteration(5))
    path = run.checkpoint_path(5)
    path.write_bytes(path.read_bytes()[:-3])
    tiny_run("hurt")
    notices = [e.event.message for e, _ in read_journal(run.journal_file) if isinstance(e.event, Notice)]
    assert any("0000005" in message for message in notices)
    assert torch.equal(newest(run)["images"], newest(Run(run.folder.parent / "whole"))["images"])


@pytest.mark.slow
def test_iterations_may_be_raised_but_nothing_else(tiny_run: RunIt) -> None:
    tiny_run("more")
    longer = tiny_run("more", "distill.iterations=8")
    assert torch.equal(newest(longer)["images"], newest(tiny_run("once", "distill.iterations=8"))["images"])
    with pytest.raises(UsageError, match=r"distill\.steps was 4, now 5; seed was 0, now 3"):
        tiny_run("more", "distill.iterations=8", "distill.steps=5", "seed=3")
    with pytest.raises(UsageError, match=r"distill\.iterations = 2"):
        tiny_run("more", "distill.iterations=2")


@pytest.mark.slow
def test_one_driver(tiny_run: RunIt, workspace: Workspace) -> None:
    run = workspace.run("r")
    with run_to_end(acquire_run(run)), pytest.raises(BusyError, match=r"by process \d+ on .* since"):
        tiny_run("r")


def test_wrong_settings_leave_nothing_behind(tiny_run: RunIt, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"distill\.ipc = 5000.*has \d+ training images"):
        tiny_run("r", "distill.ipc=5000")
    with pytest.raises(UsageError, match=r"distill\.batch = 11.*10 synthetic images"):
        tiny_run("r", "distill.batch=11")
    with pytest.raises(UsageError, match=r"teachers\.batch"):
        tiny_run("r", "teachers.batch=100000")
    with pytest.raises(UsageError, match=r"network\.depth"):
        tiny_run("r", "network.depth=9")
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["tesla.toml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("labels.kind=target",),
        ("labels.kind=target", "labels.ship=last-iteration"),
        ("labels.kind=last",),
        ("labels.kind=learned", "labels.lr=100"),
        ("distill.init=noise",),
        ("distill.init=kmeans", "distill.ipc=3"),
        ("distill.gradient=paper",),
        ("distill.gradient=unrolled",),
        ("distill.batch=4", "distill.store=checkpoint"),
        ("dataset.zca=true",),
        ("dataset.holdout=0",),
        ("augment.ops=[]",),
        ("compute.dtype=float64",),
        (
            "network.name=vit",
            "network.width=8",
            "network.depth=1",
            "evaluate.networks=vit,convnet",
            "evaluate.every=6",
            "evaluate.epochs=2",
            "evaluate.repeats=1",
        ),
    ],
)
def test_every_kind_of_run_resumes_to_the_same_bits(tiny_run: RunIt, overrides: tuple[str, ...]) -> None:
    a = tiny_run("a", *overrides)
    tiny_run("b", *overrides, until=stop_at_iteration(2))
    assert_same_bits(a, tiny_run("b", *overrides))


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


@pytest.mark.slow
def test_old_checkpoints_go_but_not_the_start_or_the_best(tiny_run: RunIt) -> None:
    run = tiny_run("r", "distill.iterations=12", "distill.checkpoint_every=1", "distill.keep=2")
    kept = run.checkpoints()
    best = selected_iteration(run, run.frozen().settings)
    assert set(kept) == {0, best, 11, 12}


@pytest.mark.slow
def test_the_best_checkpoint_on_held_out_images_is_tested(tiny_run: RunIt) -> None:
    run = tiny_run()
    held = {r.iteration: r.mean for r in run.evaluations() if r.split == "holdout" and r.subject == "distilled"}
    tested = [r for r in run.evaluations() if r.split == "test" and r.subject == "distilled"]
    assert held[tested[0].iteration] == max(held.values())
    assert len(tested[0].accuracies) == 2


def test_evaluations_are_not_repeated(tiny_run: RunIt) -> None:
    run = tiny_run()
    times = {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    tiny_run()
    assert times == {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    done = [e for e, _ in read_journal(run.journal_file) if isinstance(e.event, EvaluationDone)]
    assert len(done) == len(times)
    assert sum(isinstance(e.event, RunStarted) for e, _ in read_journal(run.journal_file)) == 2


@pytest.mark.slow
def test_runs_of_a_workspace_share_the_random_baseline(tiny_run: RunIt, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = assessments.evaluate_random

    def counted(task: Task, **arguments: Any) -> Any:
        drawn.append(arguments["split"])
        return real(task, **arguments)

    monkeypatch.setattr(assessments, "evaluate_random", counted)

    def random(run: Run) -> list[EvaluationDone]:
        return [result for result in run.evaluations() if result.subject == "random"]

    first = tiny_run("first")
    assert drawn == ["holdout", "test"]
    second = tiny_run("second", "distill.gradient=paper", "labels.kind=learned")
    assert drawn == ["holdout", "test"]
    assert random(second) == random(first)
    told = [e.event for e, _ in read_journal(second.journal_file) if isinstance(e.event, EvaluationDone)]
    assert sum(event.subject == "random" for event in told) == 2
    third = tiny_run("third", "distill.ipc=2")
    assert drawn == ["holdout", "test"] * 2
    assert random(third) != random(first)


@pytest.mark.slow
def test_the_global_generator_is_left_alone(tiny_run: RunIt) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tiny_run("r", "distill.init=kmeans")
    assert torch.equal(before, torch.get_rng_state())


def test_teachers_are_shared_between_precisions_that_train_them_alike(workspace: Workspace) -> None:
    folders = {}
    for precision in ("float32", "bf16", "tf32"):
        settings = workspace.settings(overrides=(f"compute.precision={precision}",)).settings
        dataset = run_to_end(workspace.open_dataset(settings)).dataset
        folders[precision] = workspace.buffer_folder(settings, workspace.buffer_identity(settings, dataset))
    assert folders["float32"] == folders["bf16"] != folders["tf32"]

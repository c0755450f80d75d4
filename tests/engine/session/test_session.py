"""Driving a run: from data to the test accuracy, stopped and resumed anywhere, to the same bits."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from engine.errors import BusyError, UsageError
from engine.events import (
    EvaluationDone,
    Event,
    Notice,
    RunStarted,
    RunStopped,
    TeacherEpoch,
)
from engine.runs.history import read_history
from engine.runs.journal import read_journal
from engine.runs.lease import acquire_run
from engine.runs.preview_frames import frame_path
from engine.runs.run import Run
from engine.runs.selection import selected_iteration
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session import evaluations as assessments
from engine.session import learning_rates
from engine.training.evaluation import RATES, Evaluation
from engine.training.task import Task
from tests.conftest import Drive
from tests.runs import assert_same_bits, in_the_middle, newest, stop_at_iteration


def test_a_run_goes_from_data_to_a_test_accuracy(tiny_run: Drive) -> None:
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
    peak = read_history(run).costs.peak_bytes
    assert peak is not None and 50 * 10**6 < peak < 50 * 10**9  # PyTorch alone takes more than that
    state = newest(run)
    assert state["images"].shape == (10, 1, 8, 8)
    assert float(state["student_lr"]) > 0


def test_two_runs_are_the_same_bits_and_the_images_moved(tiny_run: Drive) -> None:
    a, b = tiny_run("a"), tiny_run("b")
    assert_same_bits(a, b)
    assert not torch.equal(a.load_checkpoint(0)[0]["images"], newest(a)["images"])


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
def test_stopped_anywhere_and_resumed_gives_the_same_bits(tiny_run: Drive, stop: Callable[[Event], bool]) -> None:
    # Runs of one workspace share teachers: the stopped run trains them (in part), the other takes what is there.
    stopped = tiny_run("stopped", until=stop)
    assert isinstance(list(read_journal(stopped.journal_file))[-1][0].event, RunStopped)
    tiny_run("stopped")
    whole = tiny_run("whole")
    assert_same_bits(stopped, whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(tiny_run: Drive) -> None:
    tiny_run("whole")
    run = tiny_run("hurt", until=stop_at_iteration(5))
    path = run.checkpoint_path(5)
    path.write_bytes(path.read_bytes()[:-3])
    tiny_run("hurt")
    notices = [e.event.message for e, _ in read_journal(run.journal_file) if isinstance(e.event, Notice)]
    assert any("0000005" in message for message in notices)
    assert torch.equal(newest(run)["images"], newest(Run(run.folder.parent / "whole"))["images"])


@pytest.mark.slow
def test_iterations_may_be_raised_but_nothing_else(tiny_run: Drive) -> None:
    tiny_run("more")
    longer = tiny_run("more", "distill.iterations=8")
    assert torch.equal(newest(longer)["images"], newest(tiny_run("once", "distill.iterations=8"))["images"])
    with pytest.raises(UsageError, match=r"distill\.steps was 4, now 5; seed was 0, now 3"):
        tiny_run("more", "distill.iterations=8", "distill.steps=5", "seed=3")
    with pytest.raises(UsageError, match=r"distill\.iterations = 2"):
        tiny_run("more", "distill.iterations=2")


@pytest.mark.slow
def test_one_driver(tiny_run: Drive, workspace: Workspace) -> None:
    run = workspace.run("r")
    with run_to_end(acquire_run(run)), pytest.raises(BusyError, match=r"by process \d+ on .* since"):
        tiny_run("r")


def test_wrong_settings_leave_nothing_behind(tiny_run: Drive, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"distill\.ipc = 5000.*has \d+ training images"):
        tiny_run("r", "distill.ipc=5000")
    with pytest.raises(UsageError, match=r"distill\.batch = 11.*10 synthetic images"):
        tiny_run("r", "distill.batch=11")
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
def test_every_kind_of_run_resumes_to_the_same_bits(tiny_run: Drive, overrides: tuple[str, ...]) -> None:
    a = tiny_run("a", *overrides)
    tiny_run("b", *overrides, until=stop_at_iteration(2))
    assert_same_bits(a, tiny_run("b", *overrides))


@pytest.mark.slow
def test_old_checkpoints_go_but_not_the_start_or_the_best(tiny_run: Drive) -> None:
    run = tiny_run("r", "distill.iterations=12", "distill.checkpoint_every=1", "distill.keep=2")
    kept = run.checkpoints()
    best = selected_iteration(run, run.frozen().settings)
    assert set(kept) == {0, best, 11, 12}


@pytest.mark.slow
def test_the_best_checkpoint_on_held_out_images_is_tested(tiny_run: Drive) -> None:
    run = tiny_run()
    held = {r.iteration: r.mean for r in run.evaluations() if r.split == "holdout" and r.subject == "distilled"}
    tested = [r for r in run.evaluations() if r.split == "test" and r.subject == "distilled"]
    assert held[tested[0].iteration] == max(held.values())
    assert len(tested[0].accuracies) == 2


def test_evaluations_are_not_repeated(tiny_run: Drive) -> None:
    run = tiny_run()
    times = {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    tiny_run()
    assert times == {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    done = [e for e, _ in read_journal(run.journal_file) if isinstance(e.event, EvaluationDone)]
    assert len(done) == len(run.evaluations()) == len(times) - len(RATES)  # each rate is kept, its best is a result
    assert sum(isinstance(e.event, RunStarted) for e, _ in read_journal(run.journal_file)) == 2


@pytest.mark.slow
def test_runs_of_a_workspace_share_the_random_baseline(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = assessments.evaluate

    def counted(task: Task, wanted: Sequence[Evaluation]) -> Any:
        drawn.extend(evaluation.split for evaluation in wanted if evaluation.subject == "random")
        return real(task, wanted)

    for module in (assessments, learning_rates):
        monkeypatch.setattr(module, "evaluate", counted)
    each = ["holdout"] * len(RATES) + ["test"]

    def random(run: Run) -> list[EvaluationDone]:
        return [result for result in run.evaluations() if result.subject == "random"]

    first = tiny_run("first")
    assert drawn == each
    second = tiny_run("second", "distill.gradient=paper", "labels.kind=learned")
    assert drawn == each
    assert random(second) == random(first)
    told = [e.event for e, _ in read_journal(second.journal_file) if isinstance(e.event, EvaluationDone)]
    assert sum(event.subject == "random" for event in told) == 2
    third = tiny_run("third", "distill.ipc=2")
    assert drawn == each * 2
    assert random(third) != random(first)


@pytest.mark.slow
def test_the_global_generator_is_left_alone(tiny_run: Drive) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tiny_run("r", "distill.init=kmeans")
    assert torch.equal(before, torch.get_rng_state())

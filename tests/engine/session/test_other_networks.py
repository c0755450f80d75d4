"""Test networks with a learning rate of their own: chosen on held-out images, for a set and random images apart."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.events import EvaluationDone, Notice, Progress
from engine.runs.accuracies import Accuracies
from engine.runs.evaluation_settings import evaluation_settings
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.finished import finished_set
from engine.session.open_task import open_finished
from engine.session.session import evaluate_run
from engine.settings import Settings, resolve_settings
from engine.training.evaluation import RATES, evaluate_distilled, evaluate_random
from engine.training.training_set import SmallSet
from tests.conftest import Drive

TUNED = "evaluate.other_networks_lr=tuned"
NETWORKS = ("convnet", "mlp")


def measure(workspace: Workspace, run: Run, *overrides: str, networks: Sequence[str] = NETWORKS) -> list[Notice]:
    settings = evaluation_settings(workspace, run, overrides)[0].settings
    return [e for e in evaluate_run(workspace, run, settings, None, networks) if isinstance(e, Notice)]


def results_of(run: Run, settings: Settings | None = None) -> dict[tuple[str, str], EvaluationDone]:
    return {(r.network, r.subject): r for r in run.evaluations(settings) if r.split == "test"}


def by_hand(workspace: Workspace, run: Run, subject: str) -> tuple[float, list[float]]:
    """The rate with the best held-out accuracy of the MLP, tried one by one, and the test accuracies with it."""
    settings = evaluation_settings(workspace, run, (TUNED,))[0].settings
    done = run_to_end(finished_set(workspace, run, None))
    task, _ = run_to_end(open_finished(workspace, settings))
    own = done.student_lr.item()

    def at(rate: float, split: str, repeats: int) -> EvaluationDone:
        if subject == "random":
            return run_to_end(evaluate_random(task, split=split, network="mlp", repeats=repeats, lr=rate))
        small = SmallSet(done.images, done.labels, rate)
        return run_to_end(evaluate_distilled(task, small, iteration=0, split=split, network="mlp", repeats=repeats))

    held = {rate: at(rate, "holdout", 3).mean for rate in ((*RATES, own) if subject == "distilled" else RATES)}
    best = max(sorted(held), key=lambda rate: held[rate])
    return best, at(best, "test", 2).accuracies


@pytest.mark.slow
def test_the_rate_is_the_best_on_held_out_images(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run()
    measure(workspace, run)
    same, files = results_of(run), set((run.folder / "evaluations").iterdir())
    notices = measure(workspace, run, TUNED)
    assert results_of(run) == same, "the run's own results are still its own"
    tuned = results_of(run, evaluation_settings(workspace, run, (TUNED,))[0].settings)
    for subject in ("distilled", "random"):
        assert tuned["convnet", subject] == same["convnet", subject], "the teachers' network has the learned rate"
        rate, accuracies = by_hand(workspace, run, subject)
        assert (tuned["mlp", subject].lr, tuned["mlp", subject].accuracies) == (rate, accuracies)
        edge = {RATES[0]: " (the lowest tried)", RATES[-1]: " (the highest tried)"}.get(rate, "")
        assert any(f"with mlp: learning rate {rate:.3g}{edge}, by held-out" in notice.message for notice in notices)
    added = set((run.folder / "evaluations").iterdir()) - files
    assert len(added) == 2 * len(RATES) + 1 + 2  # every rate, and the two results

    # Nothing that is known is measured again, and the held-out curve is that of the teachers' network.
    times = {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    measure(workspace, run, TUNED)
    assert times == {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    assert {r.network for r in run.evaluations() if r.split == "holdout"} == {"convnet"}


@pytest.mark.slow
def test_a_set_keeps_the_step_size_that_it_learned(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run("r", TUNED, 'evaluate.networks=["mlp"]')
    (result,) = [r for r in run.evaluations() if r.split == "test" and r.subject == "distilled"]
    assert result.network == "mlp" and result.lr is not None
    state = run.load_checkpoint(result.iteration)[0]
    assert run_to_end(finished_set(workspace, run, None)).student_lr.item() == state["student_lr"].item()


@pytest.mark.slow
def test_stopped_between_two_rates_it_goes_on_to_the_same_result(tiny_run: Drive, workspace: Workspace) -> None:
    whole, stopped = tiny_run("whole"), tiny_run("stopped")
    measure(workspace, whole, TUNED)
    settings = evaluation_settings(workspace, stopped, (TUNED,))[0].settings
    for there in (whole.folder / "evaluations").glob("*-test-random-mlp*"):
        there.unlink()  # or it would be shared
    steps = evaluate_run(workspace, stopped, settings, None, ["mlp"])
    seen = 0
    for event in steps:
        seen += isinstance(event, Progress) and event.detail == "measuring"
        if seen == 5:  # the second of three networks at the second rate
            steps.close()
            break
    rates = set((stopped.folder / "evaluations").glob("*-holdout-*-mlp*"))
    assert len(rates) == 1
    measure(workspace, stopped, TUNED, networks=["mlp"])
    measure(workspace, whole, TUNED)
    strip = {"seconds": 0.0}
    found = [{key: {**vars(r), **strip} for key, r in results_of(run, settings).items()} for run in (whole, stopped)]
    assert found[0] == found[1] and ("mlp", "distilled") in found[0]


@pytest.mark.slow
def test_the_method_random_has_a_rate_for_each_network(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run("r", "distill.method=random", "distill.iterations=0", TUNED, 'evaluate.networks=["convnet", "mlp"]')
    found = results_of(run)
    assert {result.lr for result in found.values()} <= set(RATES)
    held = {}
    for result, protocol in run.measured():
        if (result.network, result.subject, result.split) == ("mlp", "distilled", "holdout"):
            held[protocol["other_networks_lr"]] = result.mean
    assert set(held) == set(RATES)
    assert held[found["mlp", "distilled"].lr] == max(held.values())
    assert run_to_end(finished_set(workspace, run, None)).student_lr.item() == pytest.approx(
        found["convnet", "distilled"].lr
    )


@pytest.mark.slow
def test_all_training_images_keep_their_rate(tiny_run: Drive) -> None:
    sets = (
        "distill.method=whole",
        "distill.iterations=0",
        "evaluate.whole_epochs=1",
        "evaluate.repeats=1",
        'evaluate.networks=["mlp"]',
    )
    plain, tuned = tiny_run("a", *sets), tiny_run("b", *sets, TUNED)
    assert [r.accuracies for r in results_of(plain).values() if r.subject == "distilled"] == [
        r.accuracies for r in results_of(tuned).values() if r.subject == "distilled"
    ]
    assert results_of(tuned)["mlp", "distilled"].lr is None


def test_without_held_out_images_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"other_networks_lr = tuned chooses .* dataset\.holdout = 0 holds none"):
        resolve_settings(overrides=["dataset.name=digits", "dataset.holdout=0", TUNED])


def test_a_journal_shows_the_results_of_the_last_start() -> None:
    def result(network: str, mean: float) -> EvaluationDone:
        return EvaluationDone(
            iteration=3, subject="distilled", split="test", network=network, mean=mean, std=0.0, seconds=1.0
        )

    found = Accuracies({"network.name": "convnet"})
    found.measured(result("convnet", 0.5))
    found.measured(result("mlp", 0.25))
    found.settings = {"network.name": "convnet", "evaluate.other_networks_lr": "tuned"}
    assert [(one.network, one.mean) for one in found.tests()] == [("convnet", 0.5)]
    found.measured(result("mlp", 0.75))
    assert [(one.network, one.mean) for one in found.tests()] == [("convnet", 0.5), ("mlp", 0.75)]
    assert len(found.evaluations) == 3

"""A result belongs to its protocol: measured otherwise, a second one stands beside the first."""

import json
import re
from pathlib import Path

import pytest

from engine.runs.run import Run
from engine.runs.selection import selected_iteration
from engine.runs.workspace import Workspace
from engine.training.evaluation import RATES
from tesla_tui.watch.feed import RunFeed
from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla  # noqa: F401

pytestmark = pytest.mark.slow


def files(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.folder / "evaluations").glob("*.json")}


def measured_on_test(run: Run, epochs: int) -> dict[str, list[float]]:
    found = [(result, protocol) for result, protocol in run.measured() if result.split == "test"]
    return {result.subject: result.accuracies for result, protocol in found if protocol["epochs"] == epochs}


def distilled_row(out: str) -> str:
    """What the table says of the distilled images."""
    (row,) = [line for line in out.splitlines() if "convnet" in line and "│" in line]
    return row.split("│")[3].strip()


def words_of(accuracies: list[float]) -> str:
    mean = sum(accuracies) / len(accuracies)
    spread = (sum((a - mean) ** 2 for a in accuracies) / max(len(accuracies) - 1, 1)) ** 0.5
    return f"{100 * mean:.1f} ± {100 * spread:.1f} %" if len(accuracies) > 1 else f"{100 * mean:.1f} %"


def test_another_protocol_replaces_nothing(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    run = Workspace(Path("ws")).run("ipc-1")
    own, before = measured_on_test(run, 8), files(run)
    status = json.loads(tesla("status", "ws", "--json")[1])
    selected = selected_iteration(run, run.frozen().settings)

    code, out, _ = tesla("evaluate", "ws", "--set", "evaluate.epochs=3", "--set", "evaluate.repeats=3")
    assert code == 0
    said = one_paragraph(out)
    assert "evaluate.epochs = 3 (the run's: 8), evaluate.repeats = 3 (the run's: 2)" in said
    other = measured_on_test(run, 3)
    assert len(other["distilled"]) == len(other["random"]) == 3
    assert distilled_row(out) == words_of(other["distilled"]) != words_of(own["distilled"])

    after = files(run)
    assert {name: after[name] for name in before} == before
    new = after.keys() - before.keys()
    tuning = {name for name in new if "-holdout-random-" in name}  # every rate, and the best
    assert len(new - tuning) == 2 and len(tuning) == 1 + len(RATES)
    assert json.loads(tesla("status", "ws", "--json")[1])["runs"][0]["test"] == status["runs"][0]["test"]
    assert {r.subject: r.accuracies for r in run.evaluations() if r.split == "test"} == own
    assert selected_iteration(run, run.frozen().settings) == selected

    # Neither is measured again, whichever is asked for.
    assert distilled_row(tesla("evaluate", "ws")[1]) == words_of(own["distilled"])
    tesla("evaluate", "ws", "--set", "evaluate.repeats=3", "--set", "evaluate.epochs=3")
    assert files(run) == after

    # The report has both, apart; the card of an export only the run's own.
    assert tesla("report", "ws", "--to", "r.html")[0] == 0
    page = Path("r.html").read_text()
    first, _, second = page.partition("Other protocols")
    for results, here, there in ((own, first, second), (other, second, first)):
        number = words_of(results["distilled"]).removesuffix(" %")
        assert f'<td class="n">{number}</td>' in here and f'<td class="n">{number}</td>' not in there
    tesla("export", "ws", "--to", "out")
    card = Path("out/README.md").read_text()
    assert words_of(own["distilled"]) in card and words_of(other["distilled"]) not in card


def test_a_run_that_is_measured_otherwise_from_now_on(tesla: Tesla) -> None:  # noqa: F811
    """New settings of its own: all that selects is measured to them; going back, the first results are there."""
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--ipc", 1, *SETS)
    run = Workspace(Path("ws")).run("ipc-1")
    first = run.evaluations()
    assert tesla("run", "ws", "--run", "ipc-1", "--set", "evaluate.epochs=3")[0] == 0
    second = run.evaluations()
    measured = {(r.iteration, r.split, r.subject) for r in first} & {(r.iteration, r.split, r.subject) for r in second}
    assert {(0, "holdout", "random"), (0, "test", "random"), (6, "holdout", "distilled")} <= measured
    each = [r for r, p in run.measured() if r.subject == "random" and p.get("lr") != "tuned"]
    assert len(each) == 2 * len(RATES)
    assert len(run.measured()) == len(first) + len(second) + len(each), "none was replaced"
    scored = {r.mean: r.iteration for r in second if r.split == "holdout" and r.subject == "distilled"}
    assert scored[max(scored)] == selected_iteration(run, run.frozen().settings)

    feed = RunFeed(run)
    feed.catch_up()
    shown = [(r.iteration, r.mean) for r in feed.view.held_out()]
    assert shown == sorted((r.iteration, r.mean) for r in second if r.split == "holdout" and r.subject == "distilled")

    everything = files(run)
    assert tesla("run", "ws", "--run", "ipc-1", "--set", "evaluate.epochs=8")[0] == 0
    assert files(run) == everything
    assert run.evaluations() == first
    feed.catch_up()
    assert {r.mean for r in feed.view.held_out()} == {
        r.mean for r in first if r.split == "holdout" and r.subject == "distilled"
    }


def test_the_selection_is_the_runs_own(tesla: Tesla) -> None:  # noqa: F811
    """Whoever asks for a test with other networks on the held-out part still tests the selected checkpoint."""
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--ipc", 1, *SETS, "--set", "distill.keep=9")
    run = Workspace(Path("ws")).run("ipc-1")
    tesla("evaluate", "ws", "--set", "evaluate.selection_repeats=4", "--set", "evaluate.epochs=2")
    (tested,) = [r for r, p in run.measured() if r.split == "test" and r.subject == "distilled" and p["epochs"] == 2]
    assert tested.iteration == selected_iteration(run, run.frozen().settings)


def test_a_cross_study_shows_what_it_measured(tesla: Tesla) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--ipc", 1, *SETS)
    run = Workspace(Path("ws")).run("ipc-1")
    assert tesla("study", "cross", "ws", "--network", "convnet", "--set", "evaluate.epochs=3")[0] == 0
    (written,) = Path("ws/studies").rglob("*.json")
    assert re.search(rf'"mean": {mean_of(run, 3)}', written.read_text())


def mean_of(run: Run, epochs: int) -> str:
    accuracies = measured_on_test(run, epochs)["distilled"]
    return re.escape(f"{sum(accuracies) / len(accuracies)}"[:8])


def test_a_rate_for_each_network_is_said_and_kept_apart(tesla: Tesla) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--ipc", 1, *SETS)
    networks = ("--network", "convnet", "--network", "mlp")
    assert "Learning rate for distilled" not in tesla("evaluate", "ws", *networks)[1]
    code, out, _ = tesla("evaluate", "ws", *networks, "--set", "evaluate.other_networks_lr=tuned")
    assert code == 0
    run = Workspace(Path("ws")).run("ipc-1")
    tuned = {r.subject: r for r, p in run.measured() if r.split == "test" and p.get("other_networks_lr") == "tuned"}
    assert {r.network for r in tuned.values()} == {"mlp"}
    said = one_paragraph(out)
    assert f"Learning rate for distilled images: {tuned['distilled'].lr:.3g} with mlp (chosen on the held-out" in said
    assert f"{tuned['random'].lr:.3g} with mlp" in said.partition("Learning rate for random real images: ")[2]
    assert "evaluate.other_networks_lr = tuned (the run's: same)" in said
    assert {r.network for r in run.evaluations() if r.split == "holdout"} == {"convnet"}

    assert tesla("report", "ws", "--to", "r.html")[0] == 0
    first, _, second = Path("r.html").read_text().partition("Other protocols")
    assert "a rate for each network" in second and "a rate for each network" not in first
    study = tesla("study", "cross", "ws", *networks, "--set", "evaluate.other_networks_lr=tuned")[1]
    rates = "distilled {distilled.lr:.3g}, random {random.lr:.3g}".format(**tuned)
    assert f"Learning rates chosen on the held-out part: mlp ({rates})." in one_paragraph(study)
    plans = [
        tesla("plan", "ws", "--run", "more", "--ipc", 1, *SETS, "--set", 'evaluate.networks=["mlp"]', *more)[1]
        for more in ((), ("--set", "evaluate.other_networks_lr=tuned"))
    ]
    assert ["to choose rates" in one_paragraph(plan) for plan in plans] == [False, True]

    both = ("--set", 'evaluate.networks=["convnet","mlp"]', "--set", "evaluate.other_networks_lr=tuned")
    assert tesla("run", "ws", "--run", "both", "--ipc", 1, *SETS, *both)[0] == 0
    assert tesla("export", "ws", "--run", "both", "--to", "out")[0] == 0
    rates = {r.network: r.lr for r in Workspace(Path("ws")).run("both").evaluations() if r.subject == "random"}
    card = " ".join(Path("out/README.md").read_text().split())
    if len(set(rates.values())) > 1:
        assert f"learning rates of {rates['convnet']:g} (convnet), {rates['mlp']:g} (mlp)" in card
    else:
        assert f"a learning rate of {rates['mlp']:g}" in card

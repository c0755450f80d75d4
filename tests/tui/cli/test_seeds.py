"""Runs of several seeds through the front door: names, shared teachers, resuming, means with intervals."""

import json
import signal
import statistics
from pathlib import Path

import pytest
import torch

from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_finished
from engine.tools.studies.statistics import mean_interval, paired_difference
from engine.training.evaluation import RATES, evaluate_distilled
from engine.training.labels import class_index, hard_labels
from engine.training.real_images import random_real, real_images
from engine.training.training_set import SmallSet
from tests.forks import ForkedTesla
from tests.processes import HANGS, left_by_a_dead_writer, wait_for
from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla

pytestmark = pytest.mark.slow

__all__ = ["tesla"]


def accuracies(folder: Path, name: str, subject: str = "distilled") -> list[float]:
    run = Workspace(folder).existing_run(name)
    (result,) = (r for r in run.evaluations() if r.split == "test" and r.subject == subject)
    return result.accuracies


def study_rows(folder: Path, name: str) -> list[dict[str, object]]:
    study = json.loads((folder / "studies" / name / "study.json").read_text())
    rows: list[dict[str, object]] = study["rows"]
    return rows


def test_a_run_of_several_seeds_ends_in_the_mean_over_runs(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, out, err = tesla("run", "ws", "--run", "a", "--seeds", 3, *SETS)
    assert code == 0, err
    workspace, folder = Workspace(tmp_path / "ws"), tmp_path / "ws"
    names = [f"a-seed-{number}" for number in range(3)]
    assert [run.name for run in workspace.runs()] == names
    settings = [workspace.existing_run(name).frozen().settings for name in names]
    assert [s.seed for s in settings] == [0, 1, 2]
    assert {s.teacher_seed for s in settings} == {0}
    assert len(list((folder / "buffers").glob("convnet-*"))) == 1, "one set of teachers for all"

    # n is runs: each counts once, as the mean of its networks.
    ours = [statistics.fmean(accuracies(folder, name)) for name in names]
    random = [statistics.fmean(accuracies(folder, name, "random")) for name in names]
    mean, gain = mean_interval(ours), paired_difference(ours, random)
    assert mean.half is not None and gain.half is not None
    assert f"{100 * mean.mean:.1f} ± {100 * mean.half:.1f}" in out
    words = one_paragraph(out)
    assert f"{100 * gain.mean:+.1f} ± {100 * gain.half:.1f}" in words and "n = 3 runs" in words
    assert "do not include" in words or "does not include what other teachers" in words
    for name, value in zip(names, ours, strict=True):
        assert name in out and f"{100 * value:.1f} ± " in out

    # The same command prints it again, and does nothing.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")}
    left = left_by_a_dead_writer(folder / "runs" / names[0] / "driver.json")
    code, again, _ = tesla("run", "ws", "--run", "a", "--seeds", 3, *SETS)
    assert not left.exists()
    assert code == 0 and again.count("already finished") == 3
    assert again[again.index("a: 3 runs") :] == out[out.index("a: 3 runs") :]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")} == before

    # More seeds add to those that are there.
    code, more, _ = tesla("run", "ws", "--run", "a", "--seeds", 4, *SETS)
    assert code == 0 and more.count("already finished") == 3 and "mean of 4 runs" in more


def test_own_teachers(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, out, err = tesla("run", "ws", "--seeds", 2, "--own-teachers", *SETS)
    assert code == 0, err
    assert len(list((tmp_path / "ws" / "buffers").glob("convnet-*"))) == 2
    assert "what other teachers" not in one_paragraph(out)
    code, _, err = tesla("run", "ws", "--own-teachers", *SETS)
    assert code == 2 and "needs several seeds" in err
    code, _, err = tesla("run", "ws", "--run", "b", "--seeds", 2, "--own-teachers", "--set", "teachers.seed=3", *SETS)
    assert code == 2 and "teachers.seed = 3 is set" in err
    assert not (tmp_path / "ws" / "runs" / "b-seed-0").exists()


def test_a_stopped_series_resumes_by_the_same_command(tesla: Tesla, tmp_path: Path) -> None:
    sets = [word.replace("iterations=6", "iterations=24") for word in SETS]
    for name in ("whole", "stopped"):
        tesla("init", name, "--dataset", "digits")
    process = ForkedTesla("run", tmp_path / "stopped", "--seeds", 2, *sets)
    wait_for((tmp_path / "stopped" / "runs" / "ipc-1-seed-1" / "checkpoints").exists, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 143, out
    assert "Resume with:" in out and "--seeds 2" in out and "mean of" not in out
    ends = {}
    for name in ("whole", "stopped"):
        code, out, err = tesla("run", name, "--seeds", 2, *sets)
        assert code == 0, err
        ends[name] = out[out.index("ipc-1: 2 runs") :]
    assert ends["whole"] == ends["stopped"]


def test_settings_are_checked_before_anything_runs(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--run", "a-seed-1", *SETS, "--set", "seed=9")
    code, _, err = tesla("run", "ws", "--run", "a", "--seeds", 2, *SETS)
    assert code == 2 and "seed was 9, now 1" in err
    assert not (tmp_path / "ws" / "runs" / "a-seed-0").exists()
    # A run keeps what it was started with, so the mean would be over different things.
    tesla("run", "ws", "--run", "b", "--seeds", 2, *SETS, "--set", "distill.init=noise")
    code, _, err = tesla("run", "ws", "--run", "b", "--seeds", 3, *SETS)
    assert code == 2 and "The runs of b are not equal in distill.init (noise or real)" in err
    assert not (tmp_path / "ws" / "runs" / "b-seed-2").exists()
    tesla("run", "ws", "--run", "labels-ipc-1-hard-seed-0", *SETS, "--set", "distill.init=noise", "--set", "seed=0")
    code, _, err = tesla("study", "labels", "ws", "--no-whole", "--seeds", 2, *SETS)
    assert code == 2 and "The runs of labels-ipc-1-hard are not equal in distill.init (noise or real)" in err


def test_a_study_of_several_seeds_gives_means_and_paired_differences(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    folder, more = tmp_path / "ws", ("--set", "evaluate.whole_epochs=1")
    code, out, err = tesla("study", "gradient", "ws", "--steps", 1, "--epoch", 0, "--seeds", 2, *SETS, *more)
    assert code == 0, err
    both = {
        mode: [statistics.fmean(accuracies(folder, f"gradient-ipc-1-{mode}-seed-{k}")) for k in range(2)]
        for mode in ("exact", "paper")
    }
    study = json.loads((folder / "studies" / "gradient" / "study.json").read_text())
    exact, paper, whole = study["tables"][0]["rows"]
    for row, mode in ((exact, "exact"), (paper, "paper")):
        interval = mean_interval(both[mode])
        assert row["accuracy"]["mean"] == pytest.approx(interval.mean)
        assert row["accuracy"]["low"] == pytest.approx(interval.low) and row["accuracy"]["count"] == row["n"] == 2
    paired = paired_difference(both["paper"], both["exact"])
    assert exact["difference"] is None
    assert paper["difference"] == pytest.approx(
        {"mean": paired.mean, "low": paired.low, "high": paired.high, "count": 2}
    )
    # The whole dataset is one run: beside means over runs it has no spread.
    upper = statistics.fmean(accuracies(folder, "gradient-whole"))
    assert whole["accuracy"]["mean"] == pytest.approx(upper) and whole["accuracy"]["std"] is None and whole["n"] == 1
    assert exact["of_whole"] == pytest.approx(mean_interval(both["exact"]).mean / upper)
    words = one_paragraph(out)
    assert "n = 2 runs" in words and "--no-whole leaves them out" in words

    # Another study uses the same run on the whole dataset; with one run each the table says what ± is of.
    code, out, err = tesla("study", "lr", "ws", *SETS, *more)
    assert code == 0, err
    assert not (folder / "runs" / "lr-whole").exists()
    rows = study_rows(folder, "lr")
    assert rows[-1]["start"] == "whole dataset" and rows[-1]["accuracy"]["std"] is not None  # type: ignore[index]
    assert all(row.get("difference") is None for row in rows)
    assert "standard deviation of 2 networks of one run" in one_paragraph(out)
    assert "networks, one run" in (folder / "studies" / "lr" / "table.md").read_text()


def test_a_method_of_several_seeds_leaves_out_what_it_fixes(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    sets = ("--set", "evaluate.epochs=1", "--set", "evaluate.repeats=1", "--set", "distill.iterations=6")
    command = ("study", "ipc", "ws", "--ipc", 1, "--method", "random", "--seeds", 2, "--no-whole", *sets)
    code, _, err = tesla(*command)
    assert code == 0, err
    assert [row["n"] for row in study_rows(tmp_path / "ws", "ipc")] == [2]


def test_cross_groups_the_runs_of_several_seeds(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--run", "a", "--seeds", 2, *SETS)
    tesla("run", "ws", "--run", "b", *SETS)
    code, out, err = tesla("study", "cross", "ws", "--run", "a", "--run", "b", "--network", "convnet")
    assert code == 0, err
    code, _, shown = tesla("show", "ws", "--run", "a")
    assert code == 2 and "has no run 'a'. It has: a-seed-0, a-seed-1." in shown
    several, one = study_rows(tmp_path / "ws", "cross")
    assert (several["run"], several["n"], one["run"], one["n"]) == ("a", 2, "b", 1)
    assert several["accuracy"]["count"] == 2 and "low" in several["accuracy"]  # type: ignore[index, operator]
    assert "std" in one["accuracy"]  # type: ignore[operator]
    assert "n = 2 runs" in one_paragraph(out) and "not equal" not in one_paragraph(out)

    # Of unequal runs the notes say so, and give no single n.
    tesla("run", "ws", "--run", "c", "--seeds", 3, *SETS, "--set", "evaluate.selection_repeats=1")
    code, out, err = tesla("study", "cross", "ws", "--run", "a", "--run", "c", "--network", "convnet")
    assert code == 0, err
    words = one_paragraph(out)
    assert "Means over n runs" in words and "n - 1 degrees of freedom" in words
    assert "not equal in evaluate.selection_repeats (3 or 1)." in words


def test_a_study_says_where_its_runs_are_unequal(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--run", "labels-ipc-1-hard", *SETS, "--set", "distill.init=noise")
    code, out, err = tesla("study", "labels", "ws", "--no-whole", *SETS)
    assert code == 0, err
    assert "The runs are not equal in distill.init (noise or real)." in one_paragraph(out)


def test_ranking_of_several_seeds_says_what_they_share(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--run", "a", "--seeds", 2, *SETS)
    code, out, err = tesla("study", "ranking", "ws", "--run", "a", "--set", "evaluate.whole_epochs=1")
    assert code == 0, err
    assert "The runs share the teachers" in one_paragraph(out)
    assert "Whole dataset: one run (ranking-whole)" in one_paragraph(out)


def test_a_study_takes_the_run_on_the_whole_dataset_of_its_own_length(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    whole = [word for word in SETS if word != "--set" and word.startswith(("evaluate", "compute", "network"))]
    shared = [part for word in whole for part in ("--set", word)]
    for epochs, name in ((1, "brief"), (2, "long")):
        more = ("--name", name, "--ipc", 1, "--method", "random", "--set", f"evaluate.whole_epochs={epochs}")
        code, out, err = tesla("study", "ipc", "ws", *more, *shared)
        assert code == 0, err
        assert f"({name}-whole)" in one_paragraph(out) and f"for {epochs} epoch{'s' * (epochs - 1)}." in one_paragraph(
            out
        )


def test_random_images_are_tuned_on_the_held_out_part(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, out, err = tesla("run", "ws", "--run", "a", *SETS)
    assert code == 0, err
    run = Workspace(tmp_path / "ws").existing_run("a")
    random = [(r, p) for r, p in run.measured() if r.split == "holdout" and r.subject == "random"]
    held = {p.get("lr", 0.01): r for r, p in random}
    tuned = held.pop("tuned")
    assert set(held) == set(RATES)
    best = max(held, key=lambda rate: held[rate].mean)
    assert tuned.lr == best and tuned.accuracies == held[best].accuracies and len(tuned.accuracies) == 3
    (test,) = (r for r in run.evaluations() if r.split == "test" and r.subject == "random")
    assert test.lr == best, "the test has one rate, chosen without it"
    words = one_paragraph(out)
    edge = {RATES[0]: " (the lowest tried)", RATES[-1]: " (the highest tried)"}.get(best, "")
    assert f"learning rate {best:g}{edge}, by held-out accuracy of 3 networks each: 0.003 (" in words
    # The run's own are the tuned ones; another run of the workspace measures nothing again.
    assert [r for r in run.evaluations() if r.subject == "random" and r.split == "holdout"] == [tuned]
    code, out, _ = tesla("run", "ws", "--run", "b", *SETS, "--set", "distill.lr_images=5")
    assert code == 0 and "by held-out accuracy" not in one_paragraph(out)
    (again,) = (r for r in Workspace(tmp_path / "ws").existing_run("b").evaluations() if r.split == "test" and r.lr)
    assert again == test
    # Fixed, as published tables have it.
    code, out, _ = tesla("run", "ws", "--run", "c", *SETS, "--set", "evaluate.random_lr=0.01")
    assert code == 0 and "learning rate 0.01)" in one_paragraph(out)


def test_the_method_random_draws_for_every_network(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    sets = [word for pair in zip(SETS[::2], SETS[1::2], strict=True) if "evaluate" in pair[1] or "compute" in pair[1]
            or "network" in pair[1] for word in pair]  # fmt: skip
    more = ("--set", "distill.method=random", "--set", "evaluate.repeats=3")
    code, _, err = tesla("run", "ws", "--run", "a", *sets, *more)
    assert code == 0, err
    run = Workspace(tmp_path / "ws").existing_run("a")
    (result,) = (r for r in run.evaluations() if r.split == "test" and r.subject == "distilled")
    # By hand: each network on its own draw, the first of which is the set, at the rate that was chosen.
    task, _ = run_to_end(open_finished(Workspace(tmp_path / "ws"), run.frozen().settings))
    labels = hard_labels(class_index(task.classes, 1, task.device), task.classes, task.dtype)
    draws = [random_real(task, 1, "init-real"), *(random_real(task, 1, "init-real", k) for k in (1, 2))]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3
    assert torch.equal(run.load_checkpoint(0)[0]["images"], real_images(task, draws[0]))
    assert result.lr in RATES
    for repeat, draw in enumerate(draws):
        small = SmallSet(real_images(task, draw), labels, result.lr)
        one = run_to_end(
            evaluate_distilled(task, small, iteration=0, split="test", network="convnet", repeats=repeat + 1)
        )
        assert one.accuracies[repeat] == result.accuracies[repeat]
    # What is exported trains at that rate.
    assert tesla("export", "ws", "--run", "a", "--to", "out")[0] == 0
    assert f"Learning rate {result.lr:.6g}" in Path("out/README.md").read_text()


def test_ranking_gives_both_measures_of_dd_ranking(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--run", "hard", *SETS)
    tesla("run", "ws", "--run", "soft", "--set", "labels.kind=target", *SETS)
    command = ("study", "ranking", "ws", "--run", "hard", "--run", "soft", "--set", "evaluate.whole_epochs=1")
    code, out, err = tesla(*command)
    assert code == 0, err
    folder = tmp_path / "ws"
    hard, soft = study_rows(folder, "ranking")
    whole = statistics.fmean(accuracies(folder, "ranking-whole"))
    for row, name in ((hard, "hard"), (soft, "soft")):
        ours = statistics.fmean(accuracies(folder, name))
        assert row["accuracy"]["mean"] == pytest.approx(ours)  # type: ignore[index]
        assert row["ior"] == pytest.approx(ours - row["random"]["mean"])  # type: ignore[index]
        assert row["hlr"] == pytest.approx(whole - row["hard"]["mean"])  # type: ignore[index]
    # With hard labels random is the baseline; with soft ones it is labelled by the teachers.
    assert hard["random"]["mean"] == pytest.approx(statistics.fmean(accuracies(folder, "hard", "random")))  # type: ignore[index]
    assert "the teachers' mean at the target epochs" in one_paragraph(out)
    points = {path: path.stat().st_mtime_ns for path in (folder / "studies" / "ranking" / "points").rglob("*.json")}
    tests = [path for path in points if path.name in ("one-hot-test.json", "random-test.json")]
    assert len(tests) == 3, "one-hot for both, random for the one with soft labels"
    assert tesla(*command)[0] == 0 and study_rows(folder, "ranking") == [hard, soft]
    assert {path: path.stat().st_mtime_ns for path in points} == points, "nothing is measured again"

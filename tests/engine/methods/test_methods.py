"""Every method through the session: bit-exact resume, evaluation, export, and what is refused in words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.errors import DivergedError, SettingsError, UsageError
from engine.events import (
    Event,
    IterationDone,
    IterationSkipped,
    Notice,
    Progress,
    event_from_json,
    event_to_json,
)
from engine.methods.registry import METHODS
from engine.runs.journal import read_journal
from engine.runs.preview_frames import frame_path
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.session.session import drive, teach
from engine.settings import method_names, resolve_settings
from engine.tools.exchange.export import exporting
from tests.conftest import TINY
from tests.runs import newest

RunIt = Callable[..., Run]

PEERS = ("mtt", "dm", "dsa", "dc", "frepo")
SELECTIONS = ("random", "herding", "k-center", "k-means")
SMALL = ("peers.batch_real=16", "peers.pool=2", "peers.pool_steps=2", "peers.outer_loops=2", "distill.ipc=2")
RATES = {"mtt": 10.0, "dm": 1.0, "dsa": 0.1, "dc": 0.1, "frepo": 0.003}


def options(method: str) -> tuple[str, ...]:
    """Overrides for a tiny run with a method."""
    given = (f"distill.method={method}", *SMALL)
    rate = RATES.get(method)
    return (*given, "distill.iterations=0") if rate is None else (*given, f"distill.lr_images={rate}")


def accuracy(run: Run, subject: str = "distilled") -> float:
    return next(r.mean for r in run.evaluations() if r.split == "test" and r.subject == subject)


def test_every_name_has_a_method_and_every_method_a_name() -> None:
    assert method_names() == tuple(METHODS)
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.slow
@pytest.mark.parametrize("method", PEERS)
def test_stopped_anywhere_and_resumed_gives_the_same_bits(tiny_run: RunIt, method: str) -> None:
    whole = tiny_run("whole", *options(method))
    stops: tuple[Callable[[Event], bool], ...] = (
        lambda event: isinstance(event, Progress) and event.stage == "distillation" and event.done > 1.3,
        lambda event: isinstance(event, IterationDone) and event.iteration == 3,
        lambda event: isinstance(event, Progress) and event.stage == "evaluation" and event.done > 0.3,
    )
    for stop in stops:
        tiny_run("stopped", *options(method), until=stop)
    stopped = tiny_run("stopped", *options(method))
    x, y = newest(whole), newest(stopped)
    assert x.keys() == y.keys()
    assert all(torch.equal(x[name], y[name]) for name in x)
    assert accuracy(whole) == accuracy(stopped)
    assert not torch.equal(whole.load_checkpoint(0)[0]["images"], x["images"])
    assert frame_path(whole.film, 6).exists()
    assert (whole.folder.parents[1] / "buffers").exists() == (method == "mtt")
    done = [e.event for e, _ in read_journal(whole.journal_file) if isinstance(e.event, IterationDone)]
    assert [event.iteration for event in done] == [1, 2, 3, 4, 5, 6]
    assert all((event.trajectory is None) == (method != "mtt") for event in done)


@pytest.mark.parametrize("method", SELECTIONS)
def test_a_selection_is_real_images_of_the_right_classes(tiny_run: RunIt, method: str) -> None:
    run = tiny_run("r", *options(method))
    assert run.checkpoints() == [0]
    kinds = {(r.subject, r.split) for r in run.evaluations()}
    # Nothing is selected by held-out images but the learning rate of random ones.
    tuned = {("random", "holdout"), *([("distilled", "holdout")] if method == "random" else [])}
    assert kinds == {("distilled", "test"), ("random", "test")} | tuned
    task = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))[0]
    everything = task.train.images.encoded(torch.arange(len(task.train)))
    for number, image in enumerate(newest(run)["images"]):
        same = (everything - image).abs().amax(dim=(1, 2, 3)) < 1e-6
        assert number // 2 in task.train.labels[same].tolist()
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    tiny_run("r", *options(method))
    assert before == {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}


@pytest.mark.slow
def test_the_whole_dataset_is_the_upper_bound_and_is_not_exported(
    tiny_run: RunIt, workspace: Workspace, tmp_path: Path
) -> None:
    length = ("evaluate.whole_epochs=40", "teachers.lr=0.01", "network.width=8", "distill.student_lr=0.05")
    run = tiny_run("w", *options("whole"), *length)
    assert accuracy(run) > 0.85
    assert accuracy(run) > accuracy(run, "random") + 0.1
    with pytest.raises(UsageError, match="makes no small set"):
        run_to_end(exporting(workspace, run, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    # More epochs are another measurement.
    longer = tiny_run("w", *options("whole"), *length, "evaluate.whole_epochs=2")
    assert accuracy(longer) != 0
    protocol = json.loads(next((run.folder / "evaluations").glob("*test-distilled*")).read_text())["protocol"]
    assert protocol["epochs"] == 2


def test_the_evaluation_of_the_whole_dataset_stops_within_a_few_steps(tiny_run: RunIt) -> None:
    seen: list[Progress] = []

    def see(event: Event) -> bool:
        if isinstance(event, Progress) and event.stage == "evaluation" and event.detail.startswith("distilled"):
            seen.append(event)
        return len(seen) == 3

    tiny_run("w", *options("whole"), "evaluate.whole_epochs=1000", until=see)
    assert seen[-1].done < 0.05


QUICK = {"dm": 40, "dsa": 40, "dc": 60, "frepo": 300}


@pytest.mark.slow
@pytest.mark.parametrize("method", QUICK)
def test_a_peer_beats_its_start(tiny_run: RunIt, method: str) -> None:
    common = (
        f"distill.method={method}", f"distill.lr_images={RATES[method]}", "network.width=16", "peers.batch_real=128",
        "evaluate.epochs=60", "evaluate.repeats=3", "evaluate.every=1000", "distill.init=real",
        "evaluate.random_lr=0.01",  # the step size of these few iterations too
    )  # fmt: skip
    start = tiny_run("start", *common, "distill.iterations=0")
    run = tiny_run("run", *common, f"distill.iterations={QUICK[method]}")
    assert accuracy(run) > accuracy(start) + 0.05
    assert accuracy(run) > accuracy(run, "random")


@pytest.mark.slow
def test_mtt_is_the_exact_gradient_and_unrolled_the_same_numbers(tiny_run: RunIt) -> None:
    exact = newest(tiny_run("a", *options("mtt"), "compute.dtype=float64"))
    unrolled = newest(tiny_run("b", *options("mtt"), "compute.dtype=float64", "distill.gradient=unrolled"))
    tesla = newest(
        tiny_run("c", *options("tesla"), "compute.dtype=float64", "distill.iterations=6", "distill.lr_images=10")
    )
    assert torch.allclose(exact["images"], unrolled["images"], rtol=1e-6, atol=1e-9)
    assert torch.equal(exact["images"], tesla["images"])


def test_published_rates_come_with_the_method_and_are_named() -> None:
    dm = resolve_settings(ipc=10, overrides=["distill.method=dm"])
    assert (dm.settings.distill.lr_images, dm.origins["distill.lr_images"]) == (1.0, "method dm")
    dc = resolve_settings(ipc=12, overrides=["distill.method=dc"])
    assert (dc.settings.peers.outer_loops, dc.settings.peers.inner_loops) == (10, 50)
    assert dc.origins["peers.outer_loops"] == "method dc, IPC 10"
    assert dc.settings.distill.init == "noise"
    mtt = resolve_settings(ipc=1, overrides=["distill.method=mtt", "dataset.name=cifar10"])
    assert mtt.settings.distill.lr_images == 100
    assert mtt.origins["distill.lr_images"] == "method mtt, cifar10, IPC 1"
    hard = resolve_settings(ipc=1, overrides=["distill.method=mtt", "dataset.name=imagenet"])
    assert (hard.settings.labels.kind, hard.origins["labels.kind"]) == ("hard", "method mtt")
    assert resolve_settings().settings.distill.method == "tesla"


def test_a_toml_may_set_rates_and_rows_choose_methods(tmp_path: Path) -> None:
    toml = tmp_path / "tesla.toml"
    toml.write_text('[distill]\niterations = 7\nlr_images = 3.0\n[ipc.2.distill]\nmethod = "random"\n')
    one, two = resolve_settings(toml, ipc=1), resolve_settings(toml, ipc=2)
    assert (one.settings.distill.method, one.settings.distill.iterations) == ("tesla", 7)
    assert (two.settings.distill.method, two.settings.distill.iterations) == ("random", 0)
    assert resolve_settings(toml, overrides=["distill.method=dm"]).settings.distill.lr_images == 3.0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["distill.method=dmm"], "distill.method"),
        (["distill.method=mtt", "distill.gradient=paper"], "whole gradient"),
        (["distill.method=random", "distill.iterations=5"], r"iterations = 0; the command line sets 5"),
        (["distill.method=dm", "labels.kind=target"], r"labels\.kind = hard; the command line sets target"),
    ],
)
def test_settings_that_contradict_a_method_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        resolve_settings(overrides=overrides)


@pytest.mark.slow
def test_what_a_method_does_not_read_is_told(tiny_run: RunIt) -> None:
    run = tiny_run("r", "distill.method=dm", "distill.lr_images=1", "labels.lr=3")
    first = [e.event for e, _ in read_journal(run.journal_file)][:3]
    (notice,) = (event for event in first if isinstance(event, Notice))
    assert notice.message == (
        "distill.method = dm does not read teachers.count, teachers.epochs, distill.steps, distill.teacher_epochs, "
        "distill.max_start_epoch, labels.lr."
    )
    tesla = tiny_run("t")
    assert not any("does not read" in getattr(e.event, "message", "") for e, _ in read_journal(tesla.journal_file))


def test_teachers_are_refused_where_there_are_none(workspace: Workspace) -> None:
    effective = workspace.settings(overrides=(*TINY, "distill.method=dm"))
    with pytest.raises(UsageError, match="needs no teachers"):
        run_to_end(teach(workspace, effective.settings))
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["tesla.toml"]


def test_another_method_is_another_run(tiny_run: RunIt) -> None:
    tiny_run("r", *options("dm"))
    with pytest.raises(UsageError, match=r"distill\.method was 'dm', now 'dsa'"):
        tiny_run("r", *options("dsa"))


def test_several_workers_are_refused(workspace: Workspace) -> None:
    settings = resolve_settings(overrides=[*TINY, *options("dm")]).settings
    two = Ranks(RankEnvironment(rank=0, size=2, local_rank=0, local_size=2))
    with pytest.raises(UsageError, match="Several workers cannot share"):
        run_to_end(open_task(workspace, settings, two))


@pytest.mark.parametrize("method", ["dm", "frepo"])
def test_bad_numbers_are_skipped_and_then_stop_the_run(tiny_run: RunIt, workspace: Workspace, method: str) -> None:
    with pytest.raises(DivergedError, match=r"bad for 5 iterations in a row"):
        tiny_run("r", *options(method), "distill.lr_images=1e38", "distill.iterations=30")
    run = workspace.run("r")
    events = [e.event for e, _ in read_journal(run.journal_file)]
    assert [e.consecutive for e in events if isinstance(e, IterationSkipped)][-5:] == [1, 2, 3, 4, 5]
    assert all(run.load_checkpoint(iteration) for iteration in run.checkpoints())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dm", "frepo", "k-means"])
def test_an_export_says_how_it_was_made(tiny_run: RunIt, workspace: Workspace, tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    run = tiny_run("r", *options(method))
    run_to_end(exporting(workspace, run, tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert METHODS[method].title in card
    assert "TESLA" not in card
    labels = load_file(tmp_path / "out" / "distilled.safetensors")["labels"]
    assert torch.allclose(labels.sum(dim=1), torch.ones(20), atol=1e-6)


def test_classes_smaller_than_a_batch_give_all_they_have(tiny_run: RunIt) -> None:
    run = tiny_run("r", *options("dm"), "peers.batch_real=100000", "distill.iterations=1")
    assert newest(run)["images"].isfinite().all()


def test_events_without_a_trajectory_are_read_again() -> None:
    event = IterationDone(
        iteration=1, iterations=2, loss=0.5, student_lr=0.01, gradient_norm=1.0, student_lr_gradient=None,
        trajectory=None, start_epoch=None, seconds=0.1,
    )  # fmt: skip
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


FEW = ("evaluate.epochs=2", "evaluate.repeats=1", "evaluate.every=1000", "evaluate.baseline=false")


@pytest.mark.slow
def test_peers_run_in_other_types_and_spaces(tiny_run: RunIt) -> None:
    for method in ("dm", "dc", "frepo"):
        tiny_run(f"{method}-vit", *options(method), "network.name=vit", "network.width=8", "network.depth=1",
                 "distill.iterations=2", *FEW)  # fmt: skip
        run = tiny_run(f"{method}-zca", *options(method), "dataset.zca=true", "compute.dtype=float64", *FEW)
        assert newest(run)["images"].dtype is torch.float64


def test_a_stop_before_the_first_iteration_leaves_the_start(workspace: Workspace) -> None:
    run = workspace.run("early")
    effective = workspace.settings(overrides=(*TINY, *options("dsa")), run=run)
    events = drive(workspace, run, effective)
    for event in events:
        if isinstance(event, Progress) and event.stage == "distillation":
            break
    events.close()
    assert run.checkpoints() == [0]

"""`tesla study` through its front door: tiny studies on digits, stopped, gone on with, and held against oracles."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.events import IterationDone
from engine.matching import matching_gradient
from engine.methods.tesla import draw_iteration
from engine.runs.journal import read_journal
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.tools.studies.outcome import Chart, Column, Curve, Outcome, Value, markdown
from engine.training.labels import class_index, hard_labels
from engine.training.real_images import initial_images
from tesla_tui.render.contact_sheet import contact_sheets
from tesla_tui.render.study_chart import draw_charts
from tests.conftest import TINY, Drive
from tests.forks import ForkedTesla
from tests.processes import HANGS, left_by_a_dead_writer, wait_for
from tests.tui.cli.test_cli import SETS, Tesla, tesla

pytestmark = pytest.mark.slow

__all__ = ["tesla"]


def rows_of(folder: Path, name: str) -> list[dict[str, object]]:
    study = json.loads((folder / "studies" / name / "study.json").read_text())
    assert study["format"] == 1
    rows: list[dict[str, object]] = study["rows"]
    for row in rows:
        row.pop("pace", None)  # of the clock
    return rows


def test_labels_ends_in_a_table_a_chart_and_runs_like_any_other(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, out, err = tesla("study", "labels", "ws", "--no-whole", *SETS)
    assert code == 0, err
    folder = tmp_path / "ws" / "studies" / "labels"
    rows = rows_of(tmp_path / "ws", "labels")
    assert [row["labels"] for row in rows] == ["hard", "target", "last", "learned"]
    run = Workspace(tmp_path / "ws").existing_run("labels-ipc-1-target")
    assert run.frozen().settings.labels.kind == "target"
    (result,) = (r for r in run.evaluations() if r.split == "test" and r.subject == "distilled")
    assert rows[1]["accuracy"] == {"mean": result.mean, "std": result.std, "count": 2}
    assert f"{100 * result.mean:.1f} ± {100 * result.std:.1f}" in out
    assert "labels-ipc-1-target" in (folder / "table.md").read_text() or "target" in (folder / "table.md").read_text()
    with Image.open(folder / "chart-1.png") as picture:
        assert picture.width > 1000
    assert "<text" in (folder / "chart-1.svg").read_text()  # words stay words
    left = left_by_a_dead_writer(run.folder / "driver.json")
    code, again, _ = tesla("study", "labels", "ws", "--no-whole", *SETS)
    assert not left.exists()
    assert code == 0 and again.count("already finished") == 4
    assert rows_of(tmp_path / "ws", "labels") == rows


def test_a_stopped_study_goes_on_and_ends_in_the_same_numbers(tesla: Tesla, tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        tesla("init", name, "--dataset", "digits")
    sets = [word.replace("iterations=6", "iterations=24") for word in SETS]
    process = ForkedTesla("study", "gradient", tmp_path / "stopped", "--no-whole", *sets)
    second = tmp_path / "stopped" / "runs" / "gradient-ipc-1-paper" / "checkpoints"
    wait_for(second.exists, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 143, out
    assert not (tmp_path / "stopped" / "studies" / "gradient" / "study.json").exists()
    for name in ("whole", "stopped"):
        code, out, err = tesla("study", "gradient", name, "--no-whole", *sets)
        assert code == 0, err
    assert "exact): already finished" in out
    assert rows_of(tmp_path / "stopped", "gradient") == rows_of(tmp_path / "whole", "gradient")


def test_gradient_measures_what_the_unrolled_gradient_says(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    sets = [*SETS, "--set", "compute.dtype=float64"]
    code, _, err = tesla("study", "gradient", "ws", "--steps", 1, "--steps", 3, "--epoch", 1, "--no-whole", *sets)
    assert code == 0, err
    one, three = rows_of(tmp_path / "ws", "gradient")
    assert (one["steps"], three["steps"], three["epoch"]) == (1, 3, 1)
    assert one["cosine"]["mean"] == pytest.approx(1, abs=1e-12)  # type: ignore[index]
    assert one["student_lr_ratio"]["mean"] == pytest.approx(1, abs=1e-12)  # type: ignore[index]
    settings = resolve_settings(
        tmp_path / "ws" / "tesla.toml", overrides=[*TINY, "distill.steps=3", "compute.dtype=float64"]
    ).settings
    task, buffer = run_to_end(open_task(Workspace(tmp_path / "ws"), settings))
    images = initial_images(task)
    labels = hard_labels(class_index(task.classes, 1), task.classes, task.dtype)
    cosines = []
    for number in range(4):
        draw = draw_iteration(task, number)
        start, target = (row.to(task.dtype) for row in buffer.read(draw.trajectory, 1, 2))
        both = [
            matching_gradient(
                task.fresh_network(0).train(), start=start, target=target, images=images, labels=labels,
                student_lr=settings.distill.student_lr, schedule=draw.schedule, mode=mode,
            )
            for mode in ("unrolled", "paper")
        ]  # fmt: skip
        a, b = (gradient.images.flatten() for gradient in both)
        cosines.append((torch.dot(a, b) / a.norm() / b.norm()).item())
    assert three["cosine"]["mean"] == pytest.approx(np.mean(cosines), abs=1e-12)  # type: ignore[index]
    assert three["cosine"]["mean"] < 1 - 1e-9  # type: ignore[index]


def test_sla_only_keeps_its_points_and_measures_again_only_what_is_missing(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("study", "sla-only", "ws", *SETS)[0] == 0
    rows = rows_of(tmp_path / "ws", "sla-only")
    assert [row["labels"] for row in rows] == ["one-hot", *(f"teachers at epoch {epoch}" for epoch in range(3))]
    points = sorted((tmp_path / "ws" / "studies" / "sla-only" / "points").glob("*/epoch-*.json"))
    written = [path.stat().st_mtime_ns for path in points]
    points[1].unlink()
    assert tesla("study", "sla-only", "ws", *SETS)[0] == 0
    assert rows_of(tmp_path / "ws", "sla-only") == rows
    now = [path.stat().st_mtime_ns for path in points]
    assert now[0] == written[0] and now[1] > written[1] and now[2] == written[2]


def test_ipc_takes_every_method_and_shared_settings_where_they_belong(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    methods = [word for method in ("random", "dm", "whole") for word in ("--method", method)]
    more = ("--set", "evaluate.whole_epochs=1", "--set", "peers.batch_real=8")
    code, out, err = tesla("study", "ipc", "ws", "--ipc", 2, "--ipc", 1, *methods, *SETS, *more)
    assert code == 0, err
    rows = rows_of(tmp_path / "ws", "ipc")
    assert [(row["method"], row["ipc"]) for row in rows] == [
        ("random", 1), ("dm", 1), ("whole", "all"), ("random", 2), ("dm", 2),
    ]  # fmt: skip
    assert all(row["accuracy"] is not None and row["published"] is None for row in rows)
    assert "no published numbers for this dataset" in out
    code, _, err = tesla("study", "ipc", "ws", "--method", "tessla")
    assert code == 2 and "Unknown method 'tessla'" in err


def test_cross_evaluates_runs_with_other_networks(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, _, err = tesla("study", "cross", "ws")
    assert code == 2 and "no run with a checkpoint" in err
    tesla("run", "ws", *SETS)
    quick = ("--set", "evaluate.epochs=1", "--set", "evaluate.repeats=1")
    code, _, err = tesla("study", "cross", "ws", "--network", "convnet", "--network", "vit", *quick)
    assert code == 0, err
    rows = rows_of(tmp_path / "ws", "cross")
    assert [(row["run"], row["network"]) for row in rows] == [("ipc-1", "convnet"), ("ipc-1", "vit")]
    assert all(row["accuracy"]["std"] is None for row in rows)  # type: ignore[index]


@pytest.mark.parametrize("study", ["cross", "ranking"])
def test_a_stopped_run_is_named_beside_its_figures(
    study: str, tesla: Tesla, tiny_run: Drive, workspace: Workspace
) -> None:
    tiny_run("whole-one")
    tiny_run("half", until=lambda event: isinstance(event, IterationDone) and event.iteration == 4)
    quick = ("--set", "evaluate.epochs=1", "--set", "evaluate.repeats=1")
    more = ("--network", "convnet") if study == "cross" else ("--no-whole",)
    code, out, err = tesla("study", study, workspace.folder, *more, *quick)
    assert code == 0, err
    assert {row["run"] for row in rows_of(workspace.folder, study)} == {"half", "whole-one"}
    said = " ".join(out.split())
    assert "Not finished: half (iteration 4 of 6). What they have so far is in the table." in said


def test_start_drives_every_range_and_labels_with_both_gradients(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    sets = [*SETS, "--set", "distill.max_start_epoch=3", "--set", "evaluate.repeats=1", "--set", "evaluate.every=6"]
    code, _, err = tesla("study", "start", "ws", "--no-whole", *sets)
    assert code == 0, err
    rows = rows_of(tmp_path / "ws", "start")
    assert [(row["start"], row["labels"], row["gradient"]) for row in rows] == [
        (start, labels, gradient)
        for start, labels in (
            ("early, 0", "hard"), ("late, 1..2", "hard"), ("all, 0..2", "hard"), ("growing, 0 to 0..2", "hard"),
            ("all, 0..2", "learned, from one-hot"), ("all, 0..2", "learned, from a teacher"),
        )
        for gradient in ("exact", "paper")
    ]  # fmt: skip
    workspace = Workspace(tmp_path / "ws")
    starts: dict[str, set[int | None]] = {}
    for name in ("early", "late", "whole", "curriculum", "labels-teacher"):
        both = [workspace.existing_run(f"start-ipc-1-{name}-{gradient}") for gradient in ("exact", "paper")]
        events = [[e.event for e, _ in read_journal(run.journal_file)] for run in both]
        drawn = [[e.start_epoch for e in found if isinstance(e, IterationDone)] for found in events]
        assert drawn[0] == drawn[1] and len(drawn[0]) == 6  # the same draws for both gradients
        starts[name] = set(drawn[0])
        if name == "curriculum":
            assert drawn[0][0] == 0
    assert starts["early"] == {0} and starts["late"] <= {1, 2} and starts["whole"] <= {0, 1, 2}
    run = workspace.existing_run("start-ipc-1-labels-teacher-paper")
    settings = run.frozen().settings
    assert (settings.labels.init, settings.distill.init, settings.distill.gradient) == ("teacher", "correct", "paper")
    (result,) = (r for r in run.evaluations() if r.split == "test" and r.subject == "distilled")
    assert rows[-1]["accuracy"] == {"mean": result.mean, "std": None, "count": 1}
    folder = tmp_path / "ws" / "studies" / "start"
    assert sorted(path.name for path in folder.glob("*.png")) == ["chart-1.png", "chart-2.png", "chart-3.png"]
    code, again, _ = tesla("study", "start", "ws", "--no-whole", *sets)
    assert code == 0 and again.count("already finished") == 12
    assert rows_of(tmp_path / "ws", "start") == rows


def test_start_says_what_it_needs(tesla: Tesla) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, _, err = tesla("study", "start", "ws", "--set", "distill.max_start_epoch=1")
    assert code == 2 and "an early and a late half need two" in err and "max_start_epoch = 2" in err
    code, _, err = tesla("study", "start", "ws", "--set", "distill.method=dm")
    assert code == 2 and "matches no teachers" in err
    code, _, err = tesla("study", "start", "ws", "--set", "distill.method=mtt")
    assert code == 2 and "the study changes both" in err


def test_augment_measures_beside_the_run_and_leaves_its_results_alone(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, _, err = tesla("study", "augment", "ws")
    assert code == 2 and "no run with a checkpoint" in err
    tesla("run", "ws", *SETS)
    run = Workspace(tmp_path / "ws").existing_run("ipc-1")
    files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    code, _, err = tesla("study", "augment", "ws")
    assert code == 0, err
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == files
    rows = rows_of(tmp_path / "ws", "augment")
    assert [row["augment"] for row in rows] == ["dsa", "autoaugment", "randaugment", "none"]
    # Under its own augmentation it is what the run found; under another what an evaluation with that one finds.
    found = {r.subject: r for r in run.evaluations() if r.split == "test"}
    for subject, column in (("distilled", "accuracy"), ("random", "random")):
        assert rows[0][column] == {"mean": found[subject].mean, "std": found[subject].std, "count": 2}
    _, out, _ = tesla("evaluate", "ws", "--set", "evaluate.augment=randaugment")
    assert "{mean:.1%}|{std:.1%}".format(**rows[2]["accuracy"]).replace("%", "").replace("|", " ± ") in out  # type: ignore[arg-type]
    points = sorted((tmp_path / "ws" / "studies" / "augment" / "points").glob("*/[a-hj-z]*.json"))
    assert len(points) == 8
    written = [path.stat().st_mtime_ns for path in points]
    points[0].unlink()
    assert tesla("study", "augment", "ws")[0] == 0
    assert rows_of(tmp_path / "ws", "augment") == rows
    now = [path.stat().st_mtime_ns for path in points]
    assert now[0] != written[0] and now[1:] == written[1:]
    code, _, err = tesla("study", "augment", "ws", "--set", "evaluate.augment=none")
    assert code == 2 and "runs evaluate.augment" in err


def test_gallery_writes_a_page_for_a_hundred_classes(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", "--ipc", 2, *SETS)
    code, _, err = tesla("study", "gallery", "ws")
    assert code == 0, err
    with Image.open(tmp_path / "ws" / "studies" / "gallery" / "ipc-2" / "page-001.png") as page:
        assert page.mode == "RGB" and page.height > page.width  # ten rows of two
    pixels = np.random.default_rng(0).integers(0, 256, (120, 4, 4, 3), dtype=np.uint8)
    names = [f"class number {k} with a long name" for k in range(120)]
    paths = contact_sheets(pixels, names, 1, "many", tmp_path / "pages")
    assert [path.name for path in paths] == ["page-001.png", "page-002.png"]
    with Image.open(paths[0]) as one, Image.open(paths[1]) as two:
        assert one.width == two.width and one.height > 3 * two.height
        colours = {tuple(map(int, pixels[100].reshape(-1, 3)[i])) for i in range(16)}
        assert colours <= {colour for _, colour in two.getcolors(1 << 20)}  # type: ignore[union-attr]


def test_an_outcome_reads_well_as_markdown_and_draws_bars_and_lines(tmp_path: Path) -> None:
    outcome = Outcome(
        study="x",
        title="A title",
        question="Which?",
        columns=[Column("a", "name"), Column("b", "accuracy", "percent"), Column("c", "gained", "gain")],
        rows=[{"a": "one | two", "b": Value(0.5, 0.01, 5), "c": -0.101}, {"a": "three", "b": Value(0.25), "c": None}],
        charts=[
            Chart("Bars", "", "y", [Curve("m", [0, 1], [0.5, 0.25], [0.1, 0])], names=["p", "q"], percent=True),
            Chart("Lines", "T", "y", [Curve("m", [1, 10], [1, 2]), Curve("equal", [1, 10], [1, 1], reference=True)]),
        ],
        notes=["A note."],
        setting={"dataset.name": "digits"},
    )  # fmt: skip
    page = markdown(outcome)
    assert r"| one \| two | 50.0 ± 1.0 | -10.1 |" in page and "| three | 25.0 |  |" in page and "* A note." in page
    first = [path.read_bytes() for path in draw_charts(outcome, tmp_path)]
    assert len(first) == 4
    assert [path.read_bytes() for path in draw_charts(outcome, tmp_path)] == first  # the same bytes again

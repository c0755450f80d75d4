"""A run's numbers for other programs, read back through those programs' own readers."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import BusyError
from engine.events import IterationDone, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.lease import acquire_run
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.tracking import follow as engine_follow
from engine.tools.tracking.tensorboard import log_to_tensorboard
from tesla_tui.main import main
from tests.conftest import Drive
from tests.forks import ForkedTesla
from tests.processes import HANGS

pytestmark = pytest.mark.slow


def tesla(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tesla", *map(str, arguments)])
    try:
        return main()
    except SystemExit as end:
        return int(end.code or 0)


def journal(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.journal_file.read_text().splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Everything TensorBoard itself finds in a folder of event files."""
    return {tag: [(e.step, e.value) for e in reader(folder).Scalars(tag)] for tag in reader(folder).Tags()["scalars"]}


def reader(folder: Path) -> Any:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_csv_has_every_number_of_the_journal(
    tiny_run: Drive, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run()
    assert tesla(monkeypatch, "log", workspace.folder, "--csv", "-") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    lines = journal(run)
    losses = [(str(line["iteration"]), line["loss"]) for line in lines if line["kind"] == "IterationDone"]
    assert [(r["step"], float(r["value"])) for r in rows if r["series"] == "distillation/loss"] == losses
    assert len(losses) == 6
    epochs = [line for line in lines if line["kind"] == "TeacherEpoch"]
    assert [(int(r["trajectory"]), float(r["value"])) for r in rows if r["series"] == "teachers/accuracy"] == [
        (line["trajectory"], line["accuracy"]) for line in epochs
    ]
    (test,) = [r for r in rows if r["series"] == "accuracy/test/convnet"]
    (done,) = [e for e in run.evaluations() if e.split == "test" and e.subject == "distilled"]
    assert (int(test["step"]), float(test["value"])) == (done.iteration, done.mean)

    target = workspace.folder / "deep" / "numbers.csv"
    assert tesla(monkeypatch, "log", workspace.folder, "--csv", target) == 0
    assert list(csv.DictReader(io.StringIO(target.read_text()))) == rows


def test_tensorboard_reads_back_what_the_journal_says(
    tiny_run: Drive, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tiny_run()
    for _ in range(2):  # the second call replaces what the first one wrote
        assert tesla(monkeypatch, "log", workspace.folder, "--tensorboard", tmp_path / "tb") == 0
    found = scalars(tmp_path / "tb" / "r")
    lines = [line for line in journal(run) if line["kind"] == "IterationDone"]
    for name in ("loss", "student_lr", "gradient_norm", "student_lr_gradient", "seconds"):
        assert found[f"distillation/{name}"] == [(line["iteration"], pytest.approx(line[name])) for line in lines]
    assert {"accuracy/test/convnet", "accuracy/test/convnet/random", "accuracy/holdout/convnet"} <= set(found)
    teacher = scalars(tmp_path / "tb" / "r" / "teacher-0001")
    assert [step for step, _ in teacher["teachers/loss"]] == [1, 2]

    images = reader(tmp_path / "tb" / "r").Images("images")
    frames = sorted(run.film.glob("*.png"))
    assert [image.step for image in images] == [int(path.stem) for path in frames]
    assert len(images) >= 2
    for image, path in zip(images, frames, strict=True):
        with Image.open(io.BytesIO(image.encoded_image_string)) as logged, Image.open(path) as kept:
            assert min(logged.size) >= 32  # enlarged for people, whatever the film keeps
            same_size = kept.convert("L").resize(logged.size, Image.Resampling.NEAREST)
            assert np.array_equal(np.asarray(logged.convert("L")), np.asarray(same_size))


def test_iterations_done_twice_count_once(tiny_run: Drive, tmp_path: Path) -> None:
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone) and event.iteration == 3)
    # A driver that was killed had journaled more than its last checkpoint holds.
    lost = {**next(line for line in journal(run) if line["kind"] == "IterationDone"), "loss": 999.0}
    for name in ("kind", "schema", "seq", "time", "crc"):
        lost.pop(name)
    writer = JournalWriter(run.journal_file)
    for iteration in (4, 5):
        writer.append(IterationDone(**{**lost, "iteration": iteration}))
    tiny_run("r")
    (resumed,) = [line["resumed_from"] for line in journal(run) if line["kind"] == "RunStarted"][1:]
    assert resumed == 3
    list(log_to_tensorboard(run, tmp_path))
    losses = scalars(tmp_path / "r")["distillation/loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert max(value for _, value in losses) < 900
    from engine.tools.tracking import write_csv

    text = io.StringIO()
    write_csv(run, text)
    assert "999" not in {row["value"] for row in csv.DictReader(io.StringIO(text.getvalue()))}
    assert text.getvalue().count("distillation/loss,") == 6


def test_it_follows_a_run_for_as_long_as_it_is_driven(
    workspace: Workspace, tiny_run: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(engine_follow, "LOOK", 0.01)
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone))
    started = next(line for line in journal(run) if line["kind"] == "RunStarted")
    with run_to_end(acquire_run(run)):
        log = log_to_tensorboard(run, tmp_path)
        assert next(log).done == 1
        with pytest.raises(BusyError):
            next(log_to_tensorboard(run, tmp_path))
        writer = JournalWriter(run.journal_file)
        writer.append(
            RunStarted(run="r", resumed_from=1, settings=started["settings"], environment=started["environment"])
        )
        line = next(line for line in journal(run) if line["kind"] == "IterationDone")
        values = {key: value for key, value in line.items() if key not in ("kind", "schema", "seq", "time", "crc")}
        writer.append(IterationDone(**{**values, "iteration": 2, "loss": 7.5}))
        assert next(log).done == 2
        assert scalars(tmp_path / "r")["distillation/loss"][-1] == (2, 7.5)
    for _ in log:  # nobody drives any more: it ends
        pass


def test_what_is_missing_is_said(
    tiny_run: Drive, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tesla(monkeypatch, "log", workspace.folder, "--csv", "-") == 2
    assert "has no runs yet" in capsys.readouterr().err
    tiny_run("r", until=lambda event: isinstance(event, IterationDone))
    assert tesla(monkeypatch, "log", workspace.folder) == 2
    assert "--tensorboard FOLDER" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert tesla(monkeypatch, "log", workspace.folder, "--tensorboard", workspace.folder / "tb") == 2
    assert "pip install" in capsys.readouterr().err
    assert not (workspace.folder / "tb").exists()


def test_a_disk_that_refuses_tensorboards_writer_is_one_sentence(tiny_run: Drive, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tiny_run()
    process = ForkedTesla(
        "log", run.folder.parents[1], "--tensorboard", tmp_path / "tb", "--once", largest_file=2000
    )  # fmt: skip
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 1, out + err
    assert "Traceback" not in err
    assert err.count("Error: ") == 1
    assert f"{tmp_path / 'tb' / run.name}" in err and "(File too large)" in err and "same command again" in err
    assert ForkedTesla("log", run.folder.parents[1], "--tensorboard", tmp_path / "tb", "--once").wait(HANGS) == 0
    assert "distillation/loss" in scalars(tmp_path / "tb" / run.name)

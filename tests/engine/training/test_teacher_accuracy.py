"""The accuracy of teachers: what it is, that it is measured once, and what is said when it is that of guessing."""

import pytest
import torch

from engine.errors import NewerFormatError
from engine.events import Notice, TeachersMeasured
from engine.networks.flat import load_parameters
from engine.runs.judgement import near_guessing
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.session.session import teach
from engine.storage.atomic import read_json, write_json
from engine.training import teacher_accuracy
from tests.conftest import TINY, Drive
from tests.runs import events


def measured(run: Run) -> TeachersMeasured:
    return events(run, TeachersMeasured)[-1]


def test_it_is_the_accuracy_on_the_held_out_images(tiny_run: Drive) -> None:
    run = tiny_run("r", "teachers.batch=16", until=lambda event: isinstance(event, TeachersMeasured))
    found = measured(run)
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    naive = []
    for trajectory in range(2):
        model = task.fresh_network(0)
        load_parameters(model, buffer.read(trajectory, 2)[0])
        answers = model(task.holdout.images.encoded(torch.arange(len(task.holdout)))).argmax(dim=1)
        naive.append((answers == task.holdout.labels).float().mean().item())
    assert found.accuracies == pytest.approx(naive)
    assert (found.split, found.images, found.epoch, found.count) == ("holdout", 143, 2, 2)
    assert found.steps == 81  # 1295 images, 16 a step
    assert found.guessing == pytest.approx(15 / 143)
    assert not near_guessing(found.mean, found.guessing, found.images)
    assert not [notice for notice in events(run, Notice) if notice.about == "teachers"]


def test_it_is_measured_once_for_all_runs(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny_run("r")
    monkeypatch.setattr(teacher_accuracy, "labelling", None)  # nothing is measured any more
    assert measured(tiny_run("other", "distill.iterations=1")) == measured(first)
    path = first.folder.parents[1] / "buffers" / measured(first).buffer / "accuracy.json"
    monkeypatch.undo()

    # Damaged, or of other images: measured again, to the same numbers.
    whole = path.read_bytes()
    for broken in (b"{", whole.replace(b"0.", b"1.", 1)):
        path.write_bytes(broken)
        assert measured(tiny_run("again", "distill.iterations=2")) == measured(first)
        assert path.read_bytes() == whole
    write_json(path, {**read_json(path), "format": 99})
    with pytest.raises(NewerFormatError):
        tiny_run("newer", "distill.iterations=1")


def test_nothing_held_out_is_said(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_accuracy, "MOST_IMAGES", 100)
    found = measured(tiny_run("r", "dataset.holdout=0", until=lambda event: isinstance(event, TeachersMeasured)))
    assert (found.split, found.images) == ("train", 100)


def test_few_of_many_teachers_are_measured(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_accuracy, "MOST_TEACHERS", 2)
    settings = workspace.settings(overrides=(*TINY, "teachers.count=3")).settings
    (found,) = (event for event in teach(workspace, settings) if isinstance(event, TeachersMeasured))
    assert (len(found.accuracies), found.count) == (2, 3)
    assert found.std > 0


def test_teachers_near_guessing_are_told_once(tiny_run: Drive) -> None:
    run = tiny_run("r", "teachers.batch=1000", until=lambda event: isinstance(event, TeachersMeasured))
    for _ in range(2):
        tiny_run("r", "teachers.batch=1000", until=lambda event: isinstance(event, Notice))
    tiny_run("r", "teachers.batch=1000")
    (notice,) = (notice for notice in events(run, Notice) if notice.about == "teachers")
    assert "near guessing" in notice.message
    assert "2 epochs of 2 steps: set a smaller teachers.batch (now 1000)" in notice.message
    one = ("teachers.batch=1000", "distill.max_start_epoch=1", "distill.teacher_epochs=1")
    once = tiny_run("one", *one, until=lambda event: isinstance(event, Notice))
    assert "They took 1 epoch of 2 steps" in next(n for n in events(once, Notice) if n.about == "teachers").message

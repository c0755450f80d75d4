"""The public interface: what `engine` exports, as a stranger's program uses it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import engine
from engine.errors import SettingsError, TeslaError, UsageError
from engine.events import Event, IterationDone, RunStarted
from engine.runtime.generators import run_to_end
from engine.tools.exchange.import_images import prepare_images
from engine.tools.exchange.set_contents import Wanted
from tests.conftest import TINY

QUICK = {"evaluate.epochs": 4, "evaluate.repeats": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[engine.Workspace, engine.DistilledSet]:
    workspace = engine.open_workspace(tmp_path_factory.mktemp("library") / "ws", dataset="digits")
    return workspace, engine.distil(workspace, ipc=1, settings=TINY)


def digits_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


ONE_NETWORK = digits_network()


def test_public_names_are_there_and_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
    for name in engine.__all__:
        assert getattr(engine, name).__doc__, name
        assert f"`{name}" in page, name
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        engine.distill  # noqa: B018


def test_import_of_the_package_loads_nothing() -> None:
    code = "import engine, sys; print('torch' in sys.modules, engine.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


def test_a_finished_run_is_loaded_with_the_same_bits(made: tuple[engine.Workspace, engine.DistilledSet]) -> None:
    workspace, first = made
    events: list[Event] = []
    again = engine.distil(workspace.folder, ipc=1, on_event=events.append)
    assert not any(isinstance(event, RunStarted) for event in events)
    loaded = engine.load_set(str(workspace.folder), "ipc-1")
    for one in (again, loaded):
        assert torch.equal(one.images, first.images) and torch.equal(one.labels, first.labels)
        assert (one.student_lr, one.iteration) == (first.student_lr, first.iteration)
    assert first.classes == tuple("0123456789")
    assert torch.allclose(first.labels.sum(dim=1), torch.ones(10))
    start = engine.load_set(workspace, iteration=0)
    assert start.iteration == 0 and start.pixels.min() >= 0 and start.pixels.max() <= 1


def test_stopped_by_the_callback_it_is_saved_and_resumes(
    made: tuple[engine.Workspace, engine.DistilledSet], tmp_path: Path
) -> None:
    class EnoughError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, IterationDone) and event.iteration == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        engine.distil(made[0], "again", ipc=1, settings=TINY, on_event=stop)
    resumed: list[Event] = []
    found = engine.distil(made[0], "again", on_event=resumed.append)
    assert next(event for event in resumed if isinstance(event, RunStarted)).resumed_from == 2
    assert torch.equal(found.images, made[1].images)


def test_events_as_a_generator(made: tuple[engine.Workspace, engine.DistilledSet]) -> None:
    events = engine.distil_events(made[0], "events", ipc=1, settings={"distill.iterations": 1}, profile=None)
    events.close()  # before the first: nothing is there
    assert "events" not in [run.name for run in made[0].runs()]


def test_any_network_on_any_set(made: tuple[engine.Workspace, engine.DistilledSet]) -> None:
    workspace, found = made

    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))

    before = torch.random.get_rng_state()
    one = engine.evaluate(workspace, found.images, found.labels, 0.01, network=network, settings=QUICK)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one == engine.evaluate(workspace, found.images, found.labels, 0.01, network=network, settings=QUICK)
    assert len(set(one.accuracies)) == 2, "each network has weights of its own"
    assert one.images == 359 and 0.1 <= one.guessing < 0.12
    assert one.std == pytest.approx(torch.tensor(one.accuracies).std().item(), rel=1e-4)
    numbers = torch.arange(10)
    hot = engine.evaluate(workspace, found.images, F.one_hot(numbers, 10).float(), 0.01, settings=QUICK)
    assert hot == engine.evaluate(workspace, found.images, numbers, 0.01, settings=QUICK)


def test_evaluate_is_what_a_run_measures(made: tuple[engine.Workspace, engine.DistilledSet]) -> None:
    workspace, found = made
    run = workspace.run("ipc-1")
    known = next(r for r in run.evaluations() if r.split == "test" and r.subject == "distilled")
    again = engine.evaluate(workspace, found.images, found.labels, found.student_lr, settings=TINY)
    assert list(again.accuracies) == known.accuracies


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": torch.zeros(10, 1, 8, 9)}, r"images is \(10, 1, 8, 9\); this dataset needs \(N, 1, 8, 8\)"),
        ({"images": torch.zeros(0, 1, 8, 8), "labels": torch.zeros(0, 10)}, "images is"),
        ({"images": torch.zeros(10, 1, 8, 8, dtype=torch.uint8)}, "normalised"),
        ({"images": torch.full((10, 1, 8, 8), float("nan"))}, "not finite"),
        ({"images": torch.zeros(10, 1, 8, 8).numpy()}, "images is a ndarray; it must be a tensor"),
        ({"labels": list(range(10))}, "labels is a list; it must be a tensor"),
        ({"labels": torch.arange(9)}, "10 images and 9 labels"),
        ({"labels": torch.arange(10) + 1}, "class 10; there are 10 classes"),
        ({"labels": torch.zeros(10, 3)}, "probabilities or"),
        ({"labels": 3 * torch.eye(10)}, "softmax"),
        ({"student_lr": 0.0}, "student_lr is 0.0"),
        ({"network": "resnet19"}, "Did you mean resnet18"),
        ({"network": lambda: "a text"}, "not a torch.nn.Module"),
        ({"network": nn.Linear(64, 10)}, "Give a function that makes it"),
        ({"network": lambda: nn.Linear(64, 10)}, r"cannot take one image \(1, 1, 8, 8\)"),
        ({"network": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, r"\(1, 3\)"),
        ({"repeats": 0}, "repeats is 0"),
        ({"repeats": 1.5}, "repeats is 1.5; it must be a whole number"),
        ({"repeats": "2"}, "repeats is '2'; it must be a whole number"),
        ({"labels": torch.arange(10) - 1}, "class -1; there are 10 classes"),
        ({"labels": torch.tensor(3)}, r"labels is \(\); give \(N, 10\) probabilities"),
        ({"images": torch.zeros(10, 1, 8, 8).to_sparse()}, "images is sparse"),
        ({"images": torch.zeros(10, 1, 8, 8, device="meta")}, "without numbers"),
        ({"student_lr": "fast"}, "student_lr is 'fast'; it must be a positive number"),
        ({"student_lr": None}, "student_lr is None"),
        ({"student_lr": torch.ones(2)}, "student_lr is tensor"),
        ({"network": 3}, "network is 3; give a name, or a function that makes a module"),
        ({"network": lambda: ONE_NETWORK}, "gives the same module again"),
        ({"network": lambda: digits_network().requires_grad_(False)}, "requires_grad = False"),
        ({"network": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10))}, "has no shape yet"),
        ({"network": lambda: nn.Flatten()}, "has no parameters"),
        ({"network": lambda: nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 10))}, "gives a tuple for one image"),
        ({"on_event": "print"}, "on_event is 'print'; give a function of one event"),
        ({"settings": [3]}, "settings holds 3; give texts"),
        ({"split": "tset"}, "split"),
        ({"settings": {"evaluate.epoch": 3}}, "evaluate.epochs"),
        ({"settings": {"evaluate.epochs": {"a": 1}}}, "evaluate.epochs"),
        ({"settings": {"evaluate.epochs": None}}, "evaluate.epochs"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    made: tuple[engine.Workspace, engine.DistilledSet], change: dict[str, object], words: str
) -> None:
    workspace, found = made
    given = {"images": found.images, "labels": found.labels, "student_lr": 0.01, "repeats": 1, **change}
    with pytest.raises(TeslaError, match=words):
        engine.evaluate(workspace, **given)  # type: ignore[arg-type]


def test_a_program_that_evaluates_may_have_gradients_off(made: tuple[engine.Workspace, engine.DistilledSet]) -> None:
    workspace, found = made

    def measured() -> engine.Accuracy:
        images, labels = found.images.clone(), found.labels.clone()
        return engine.evaluate(workspace, images, labels, 0.01, network=digits_network, settings=QUICK)

    wanted = measured()
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            assert measured() == wanted
    with torch.inference_mode():
        again = engine.distil(workspace, "off", ipc=np.int64(1), settings=TINY)  # type: ignore[arg-type]
    assert torch.equal(again.images, found.images) and not again.images.is_inference()


def test_workspaces(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        engine.open_workspace(tmp_path / "nowhere")
    made = engine.open_workspace(tmp_path / "ws", dataset="digits", settings={"evaluate.repeats": 7, "seed": 3})
    assert engine.open_workspace(tmp_path / "ws", dataset="digits").folder == made.folder
    with pytest.raises(UsageError, match="has the dataset digits, not cifar10"):
        engine.open_workspace(tmp_path / "ws", dataset="cifar10")
    assert (made.settings().settings.evaluate.repeats, made.settings().settings.seed) == (7, 3)
    with pytest.raises(SettingsError):
        engine.open_workspace(tmp_path / "other", dataset="digits", settings={"evaluate.repeat": 7})
    assert not (tmp_path / "other").exists()


def test_export_comes_back(made: tuple[engine.Workspace, engine.DistilledSet], tmp_path: Path) -> None:
    workspace, found = made
    with pytest.raises(UsageError, match="layout is 'zip'"):
        engine.export(workspace, tmp_path / "out", "ipc-1", layout="zip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="title is 3; give a text"):
        engine.export(workspace, tmp_path / "out", "ipc-1", title=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"licence is \['mit'\]; give a text"):
        engine.export(workspace, tmp_path / "out", "ipc-1", licence=["mit"])  # type: ignore[arg-type]
    assert engine.export(workspace, tmp_path / "out", "ipc-1").images == 10
    prepared = run_to_end(prepare_images(workspace, "back", Wanted(images=tmp_path / "out"), ()))
    run_to_end(prepared.write())
    back = engine.load_set(workspace, "back")
    assert torch.equal(back.images, found.images) and back.student_lr == pytest.approx(found.student_lr)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: engine.open_workspace(None), "folder is None; give a path"),  # type: ignore[arg-type]
        (lambda folder: engine.open_workspace(folder, dataset=3), "dataset is 3; give a name or a path"),  # type: ignore[arg-type]
        (lambda folder: engine.open_workspace(folder, dataset=folder / "no"), "there is no such folder or file"),
        (lambda folder: engine.open_workspace(folder, "digits", settings=3), "settings is 3; give a dictionary"),  # type: ignore[arg-type]
        (lambda folder: engine.distil(3, ipc=1), "workspace is 3; give a path"),  # type: ignore[arg-type]
    ],
    ids=["folder", "dataset", "a path", "settings", "workspace"],
)
def test_a_wrong_type_is_named(tmp_path: Path, call: Callable[[Path], object], words: str) -> None:
    with pytest.raises(UsageError if "no such" not in words else TeslaError, match=words):
        call(tmp_path / "new")


def test_settings_take_numbers_of_numpy(tmp_path: Path) -> None:
    made = engine.open_workspace(tmp_path / "new", "digits", settings={"distill.iterations": np.int64(7)})
    assert made.settings().settings.distill.iterations == 7
    with pytest.raises(UsageError, match="run is 3; give a name"):
        engine.distil(made, 3, ipc=1)  # type: ignore[arg-type]

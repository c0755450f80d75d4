"""Shared fixtures: one dataset cache for the whole session, and tiny but real problems on the embedded digits."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine.events import Event
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.session import drive
from tests import simulated_device
from tests.device.devices import NAMES, Device, named_device
from tests.runs import digits_workspace

TINY = (
    "network.width=4",
    "teachers.count=2",
    "teachers.epochs=4",
    "distill.max_start_epoch=2",
    "distill.teacher_epochs=1",
    "distill.iterations=6",
    "distill.steps=4",
    "distill.lr_images=10",
    "distill.checkpoint_every=4",
    "evaluate.every=3",
    "evaluate.epochs=8",
    "evaluate.repeats=2",
    "compute.threads=1",
    "compute.compile=off",
)
"""Settings of a run that takes about a second (long ones are stopped before compiling would pay)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device` runs the tests of devices, those of the fixture `device`, on another one, and no other tests."""
    parser.addoption("--device", choices=NAMES, default="cpu", help="what the tests of devices run on")


def pytest_configure(config: pytest.Config) -> None:
    """A simulated device has to be there before anything is differentiated."""
    if config.getoption("--device") == "sim":
        simulated_device.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `slow` come first, so that no worker of pytest-xdist starts one when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if config.getoption("--device") != "cpu":
        others = [item for item in items if "device" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The device of `--device`, which `compute.device = auto` means in this test."""
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    found = named_device(name)
    monkeypatch.setattr("engine.runtime.device.resolve_device", lambda name: found.torch)
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with found.in_use():
        yield found
    torch.use_deterministic_algorithms(strict, warn_only=warns)


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard() -> None:
    """A suite started in the background, or under nohup, ignores signals, and so would every process it starts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never touch the user's cache."""
    os.environ["TESLA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    # One for all of pytest-xdist's workers, and cleared of what a user's environment says.
    base = tmp_path_factory.getbasetemp()
    compiled = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    compiled.mkdir(mode=0o700, exist_ok=True)
    os.environ["TESLA_COMPILED"] = str(compiled)
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    os.environ["TESLA_CONFIG"] = str(tmp_path_factory.mktemp("config"))
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("hf"))
    torch.set_num_threads(1)


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this test have nothing compiled before, whatever other tests left: compiling takes its time."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # as compiling in this process may have set it
    monkeypatch.setenv("TESLA_COMPILED", str(tmp_path / "compiled"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace for digits."""
    return digits_workspace(tmp_path / "ws")


Drive = Callable[..., Run]


@pytest.fixture
def tiny_run(workspace: Workspace) -> Drive:
    """`tiny_run("name", "key=value", until=predicate)` drives a tiny run up to the event that `until` accepts."""

    def run_it(name: str = "r", *overrides: str, until: Callable[[Event], bool] | None = None) -> Run:
        run = workspace.run(name)
        effective = workspace.settings(overrides=(*TINY, *overrides), run=run)
        events = drive(workspace, run, effective)
        for event in events:
            if until is not None and until(event):
                events.close()
                break
        return run

    return run_it

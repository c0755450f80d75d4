"""Whole runs, from data to the test accuracy, on a device without float64 where that can be simulated."""

import pytest
import torch

from engine.events import EvaluationDone, Notice
from engine.methods.registry import method_of
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from tests.device.devices import Device
from tests.device.tiny import LABELS, METHODS, SELECTIONS, STORES, first_state, marked, open_tiny, tiny_overrides
from tests.runs import newest

RUNS = {
    **{name: ("distill.iterations=2", *overrides) for name, overrides in METHODS.items()},
    **{name: (f"distill.method={name}",) for name in SELECTIONS},
    **{f"{name} labels": ("distill.iterations=2", *overrides) for name, overrides in LABELS.items()},
    **{f"{store} store": ("distill.iterations=2", f"distill.store={store}") for store in STORES},
    "last iteration's labels": ("distill.iterations=2", "labels.kind=target", "labels.ship=last-iteration"),
    "from noise": ("distill.iterations=2", "distill.init=noise"),
    "from k-means": ("distill.iterations=2", "distill.init=kmeans", "distill.ipc=2"),
    "whitened": ("distill.iterations=2", "dataset.zca=true"),
    "randaugment": ("distill.iterations=0", "evaluate.augment=randaugment"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_whole_run(device: Device, device_workspace: Workspace, name: str) -> None:
    run = device_workspace.run(name.replace(" ", "-").replace("'", ""))
    effective = device_workspace.settings(overrides=tiny_overrides(*RUNS[name], "evaluate.whole_epochs=1"), run=run)
    with device.without_float64(), device.recorded() as record:
        events = list(drive(device_workspace, run, effective))
    assert record.draws == []
    assert [event.message for event in events if isinstance(event, Notice) and event.level == "error"] == []
    tested = [event for event in events if isinstance(event, EvaluationDone) and event.split == "test"]
    assert {event.subject for event in tested} == {"distilled", "random"}
    assert all(tensor.isfinite().all() for tensor in newest(run).values())


@pytest.mark.slow
def test_a_run_in_float64(device: Device, device_workspace: Workspace) -> None:
    run = device_workspace.run("float64")
    overrides = tiny_overrides("distill.iterations=2", "compute.dtype=float64", "labels.kind=learned")
    list(drive(device_workspace, run, device_workspace.settings(overrides=overrides, run=run)))
    assert newest(run)["images"].dtype is torch.float64
    assert any(result.split == "test" for result in run.evaluations())


@pytest.mark.parametrize("name", marked(METHODS))
def test_an_iteration_is_that_of_the_cpu(
    device: Device, device_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if device.name == "cpu":
        pytest.skip("this is the CPU")
    moved = []
    for there in (torch.device("cpu"), device.torch):
        monkeypatch.setattr("engine.runtime.device.resolve_device", lambda name, there=there: there)
        overrides = ("distill.iterations=2", "compute.dtype=float64", *METHODS[name])
        task, buffer = open_tiny(device_workspace, *overrides)
        state = first_state(task, buffer)
        before = state.images.clone()
        run_to_end(method_of(task.settings).make_step(task, buffer, None)(state))
        assert state.images.device == there
        moved.append((state.images - before).cpu())
    assert moved[0].norm() > 0
    assert (moved[1] - moved[0]).norm() < 1e-6 * moved[0].norm()

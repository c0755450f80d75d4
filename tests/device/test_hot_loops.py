"""In the hot loops the host never waits for the device, but once an iteration, and draws nothing on it."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from engine.events import Progress
from engine.methods.registry import method_of
from engine.networks import flatten_parameters
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.training.evaluation import RULE, measure, train_on_small
from engine.training.labels import CHUNK, labelling
from engine.training.sgd import EagerTrainer
from engine.training.teachers import train_teachers
from engine.training.training_set import WholeSet
from tests.device.devices import Device
from tests.device.tiny import (
    LABELS,
    METHODS,
    STORES,
    TEACHERS,
    first_state,
    marked,
    network,
    open_tiny,
    small_set,
    tiny_settings,
)

ANOTHER_THREAD = "engine/training/trajectory.py"
"""Writes snapshots beside the training: a thread waits there that has nothing else to do."""
NO_STREAM = "engine/matching/host_offload.py"
"""Copies on a stream of its own where there are streams; the simulated device has none."""

ONCE = "engine/matching/repeats.py"
"""Compares two passes of the network, in the first iteration of a run."""


def waits(device: Device, work: Iterator[Any], *besides: str) -> list[tuple[Any, list[str]]]:
    """What a generator yields, with the lines that blocked since what it yielded before; nothing may be drawn."""
    found, seen = [], 0
    with device.recorded() as record:
        for event in work:
            lines = record.blocking[seen:]
            found.append((event, [line for line in lines if not line.startswith((ANOTHER_THREAD, *besides))]))
            seen += len(lines)
    assert record.draws == []
    return found


@pytest.fixture(autouse=True)
def waits_are_counted(device: Device) -> None:
    """On the CPU nothing waits for a device: there is nothing to count."""
    if device.name == "cpu":
        pytest.skip("run with --device sim, as make test does")


@pytest.mark.parametrize("name", marked(TEACHERS))
def test_a_teacher_step_waits_for_nothing(device: Device, device_workspace: Workspace, name: str) -> None:
    settings = tiny_settings(device_workspace, "teachers.batch=100", "seed=7", *network(name))
    task, buffer = run_to_end(open_task(device_workspace, settings))
    buffer.open()
    events = waits(device, train_teachers(task, buffer))
    steps = 0
    for (before, _), (event, lines) in pairwise(events):
        if isinstance(before, Progress) and isinstance(event, Progress):
            assert lines == []
            steps += 1
    assert steps == settings.trained_epochs * (
        -(-len(task.train) // 100) - 1
    )  # the first of an epoch follows another event


@pytest.mark.parametrize("name", marked([*TEACHERS, "alexnet", "vit-benchmark"]))
def test_an_evaluation_step_waits_for_nothing(device: Device, device_workspace: Workspace, name: str) -> None:
    overrides = network(name) if name in TEACHERS else (f"network.name={name}",)
    task, _ = open_tiny(device_workspace, "distill.method=random", *overrides)
    learner = EagerTrainer(task.fresh_network(0, name).train(), RULE)
    steps = waits(device, train_on_small(task, learner, small_set(task), 0))
    assert [lines for _, lines in steps] == [[]] * 4


def test_a_step_on_all_training_images_waits_for_nothing(device: Device, device_workspace: Workspace) -> None:
    task, _ = open_tiny(device_workspace, "distill.method=random")
    learner = EagerTrainer(task.fresh_network(0).train(), RULE)
    steps = waits(device, train_on_small(task, learner, WholeSet(task.train, 0.01, 1), 0))
    assert [lines for _, lines in steps] == [[]] * -(-len(task.train) // task.settings.evaluate.batch)


def test_measuring_waits_once_at_the_end(device: Device, device_workspace: Workspace) -> None:
    task, _ = open_tiny(device_workspace, "distill.method=random")
    parts = waits(device, measure(task.fresh_network(0), task.train, 0, 1))
    assert [lines for _, lines in parts] == [[]]


def test_labelling_waits_for_nothing(device: Device, device_workspace: Workspace) -> None:
    task, _ = open_tiny(device_workspace, "distill.method=random")
    images = task.train.images.encoded(torch.arange(CHUNK + 1))
    theta = flatten_parameters(task.fresh_network(0))
    parts = waits(device, labelling(task.flat_network(), theta, images))
    assert [lines for _, lines in parts] == [[], []]


def assert_iterations_wait_once(device: Device, workspace: Workspace, *overrides: str) -> None:
    task, buffer = open_tiny(workspace, *overrides)
    method, state = method_of(task.settings), first_state(task, buffer)
    step = method.make_step(task, buffer, None)
    besides = (NO_STREAM,) if device.name == "sim" else ()
    for number in range(2):
        events = waits(device, step(state), *besides, *((ONCE,) if number == 0 else ()))
        lines = [line for _, blocked in events for line in blocked]
        assert len(lines) == (0 if device.name == "cpu" else 1), "\n".join(lines)
        assert state.iteration == number + 1


@pytest.mark.parametrize("name", marked(METHODS))
def test_an_iteration_waits_once(device: Device, device_workspace: Workspace, name: str) -> None:
    assert_iterations_wait_once(device, device_workspace, *METHODS[name])


@pytest.mark.parametrize("name", LABELS)
def test_an_iteration_waits_once_with_any_labels(device: Device, device_workspace: Workspace, name: str) -> None:
    assert_iterations_wait_once(device, device_workspace, *LABELS[name])


@pytest.mark.parametrize("store", STORES)
def test_an_iteration_waits_once_with_any_store(device: Device, device_workspace: Workspace, store: str) -> None:
    assert_iterations_wait_once(device, device_workspace, f"distill.store={store}")


@pytest.mark.parametrize("name", marked(TEACHERS))
def test_an_iteration_waits_once_with_any_network(device: Device, device_workspace: Workspace, name: str) -> None:
    assert_iterations_wait_once(device, device_workspace, *network(name))


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_an_iteration_waits_once_in_any_precision(device: Device, device_workspace: Workspace, precision: str) -> None:
    override = "compute.dtype=float64" if precision == "float64" else "compute.precision=bf16"
    assert_iterations_wait_once(device, device_workspace, override)

"""Small problems: a matching problem of any network, tasks of random pixels, and sessions on digits."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.data import draw_augment
from engine.events import Event, IterationDone, Notice
from engine.methods.registry import method_of
from engine.networks import flatten_parameters, initialised_network
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import Settings, resolve_settings
from engine.tools.plan.synthetic import random_task, random_trajectory
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

SIZES: dict[str, dict[str, Any]] = {
    "convnet": {"resolution": 32, "width": 16, "depth": 3},
    "resnet18": {"resolution": 32, "width": 8, "depth": None},
    "vit": {"resolution": 16, "width": 32, "depth": 2},
}
"""Networks of the checks: small, so that the CPU's float64 is quick."""

TINY: dict[str, dict[str, Any]] = {
    "convnet": {"resolution": 16, "width": 8, "depth": 2},
    "resnet18": {"resolution": 16, "width": 4, "depth": None},
    "vit": {"resolution": 8, "width": 16, "depth": 1},
}

DISTILL = (
    "network.width=4", "teachers.count=2", "teachers.epochs=4", "distill.max_start_epoch=2",
    "distill.teacher_epochs=1", "distill.iterations=6", "distill.steps=4", "distill.lr_images=10",
    "distill.checkpoint_every=4", "evaluate.every=3", "evaluate.epochs=6", "evaluate.repeats=1", "compute.compile=off",
)  # fmt: skip
"""A session on digits of a second or two."""


def matching_problem(
    network: str,
    ops: Sequence[str],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    tiny: bool = False,
    steps: int = 6,
    images: int = 16,
    batch: int = 10,
    seed: int = 0,
    **size: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """A network, and keyword arguments of `matching_gradient` besides it; the same numbers on every device.

    Args:
        network: of `SIZES`.
        ops: augmentations; step t uses number t of them.
        device: where.
        dtype: of everything.
        tiny: the smaller sizes.
        steps: T.
        images: N.
        batch: images of a step.
        seed: of everything.
        size: instead of `SIZES`.
    """
    classes = 10
    chosen = {**(TINY if tiny else SIZES)[network], **size}
    model = initialised_network(network, seed=seed, channels=3, classes=classes, **chosen).to(device, dtype).train()
    generator = torch.Generator().manual_seed(seed + 1)
    start = flatten_parameters(model).cpu().double()
    target = start + 0.01 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
    shape = (images, 3, chosen["resolution"], chosen["resolution"])
    pixels = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randn(images, classes, generator=generator, dtype=torch.float64).softmax(1)
    schedule = []
    for step in range(steps):
        index = torch.randperm(images, generator=generator)[:batch]
        used = (ops[step % len(ops)],) if ops else ()
        drawn = draw_augment(torch.Generator().manual_seed(100 + step), used, (batch, *shape[1:]), device)
        schedule.append((index.to(device), drawn))
    tensors = {"start": start, "target": target, "images": pixels, "labels": labels}
    moved: dict[str, Any] = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    return model, {**moved, "student_lr": 0.02, "schedule": schedule}


def chosen_settings(device: torch.device, *overrides: str) -> Settings:
    """Settings for `random_task`: eager on the device, but for the overrides."""
    return resolve_settings(overrides=[f"compute.device={device.type}", "compute.compile=off", *overrides]).settings


@contextmanager
def pixel_task(
    device: torch.device, *overrides: str, classes: int = 10, side: int = 32, train: int = 2560, measured: int = 2048
) -> Iterator[tuple[Task, TeacherBuffer]]:
    """A task of random pixels, and a buffer with one trajectory of one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        settings = chosen_settings(device, *overrides)
        task = random_task(settings, (classes, 3, side), Path(folder), train=train, measured=measured)
        yield task, random_trajectory(task, Path(folder) / "teachers")


def iterations(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, Any]:
    """All iterations of the task's method, as a session steps through them; at the end, the state."""
    method = method_of(task.settings)
    state = yield from method.init_state(task, buffer)
    step = method.make_step(task, buffer, None)
    while state.iteration < task.settings.distill.iterations:
        yield from step(state)
    return state


def new_workspace(folder: Path) -> Workspace:
    """An empty workspace for digits."""
    return Workspace.create(folder, resolve_settings(overrides=["dataset.name=digits"]), {"dataset.name"})


def session(
    workspace: Workspace, overrides: Sequence[str], stop: Callable[[Event], bool] | None = None
) -> tuple[Run, list[str]]:
    """Drive a run to its end, or until an event stops it; the run, and the warnings and notices."""
    run = workspace.run("r")
    told = []
    events = drive(workspace, run, workspace.settings(overrides=tuple(overrides), run=run))
    for event in events:
        if isinstance(event, Notice):
            told.append(event.message)
        if stop is not None and stop(event):
            events.close()
            break
    return run, told


def iteration_is(number: int) -> Callable[[Event], bool]:
    """Whether an event ends that iteration."""
    return lambda event: isinstance(event, IterationDone) and event.iteration == number

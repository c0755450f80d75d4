"""Problems that take a moment on any device: digits, small networks, few steps."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from engine.methods.method import State
from engine.methods.registry import method_of
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import Settings
from engine.training.real_images import random_real, real_images
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers
from engine.training.training_set import SmallSet

TINY = (
    "dataset.holdout=0.5", "teachers.count=1", "teachers.epochs=2", "distill.max_start_epoch=1",
    "distill.teacher_epochs=1", "distill.steps=2", "distill.lr_images=1",
    "distill.checkpoint_every=4", "evaluate.every=3", "evaluate.epochs=4", "evaluate.repeats=1",
    "peers.batch_real=8", "peers.pool=2", "peers.pool_steps=2", "peers.outer_loops=2",
    "compute.threads=1", "compute.compile=off",
)  # fmt: skip
"""Overrides of such a run."""

LABELS: dict[str, tuple[str, ...]] = {
    "hard": ("labels.kind=hard",),
    "target": ("labels.kind=target",),
    "last": ("labels.kind=last",),
    "learned": ("labels.kind=learned",),
    "raw": ("labels.kind=learned", "labels.parameters=probabilities"),
    "mse": ("labels.kind=learned", "labels.loss=mse"),
}
METHODS: dict[str, tuple[str, ...]] = {
    "tesla": (),
    "paper": ("distill.gradient=paper",),
    "unrolled": ("distill.gradient=unrolled",),
    "parts": ("compute.micro_batch=4",),
    "batches": ("distill.batch=4",),
    "mtt": ("distill.method=mtt",),
    "datm": ("distill.method=datm",),
    "dm": ("distill.method=dm",),
    "dsa": ("distill.method=dsa", "distill.lr_images=0.1"),
    "dc": ("distill.method=dc", "distill.lr_images=0.1"),
    "frepo": ("distill.method=frepo", "distill.lr_images=0.003"),
}
"""Everything that iterates."""
SELECTIONS = ("random", "herding", "k-center", "k-means", "whole")
STORES = ("auto", "device", "host", "checkpoint")
TEACHERS: dict[str, tuple[str, ...]] = {
    "convnet": ("network.width=4",),
    "convnet-batchnorm": ("network.width=4",),
    "convnet-layernorm": ("network.width=4",),
    "convnet-nonorm": ("network.width=4",),
    "resnet18": ("network.width=4",),
    "mlp": ("network.width=8",),
    "vit": ("network.width=16", "network.depth=2"),
    "vgg11": ("network.width=4",),
    "lenet": ("dataset.resolution=16",),
}
"""Networks that are taught here: those without dropout."""


SLOW = ("resnet18", "vit", "vgg11", "vit-benchmark", "dc", "dsa")


def marked(names: Iterable[str]) -> list[Any]:
    """Parameters of a test, of which the slow ones are marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


def network(name: str) -> tuple[str, ...]:
    """Overrides for a network of `TEACHERS`."""
    return (f"network.name={name}", *TEACHERS[name])


def tiny_overrides(*overrides: str) -> tuple[str, ...]:
    """Overrides of a tiny run, with the smallest ConvNet unless another network is given."""
    named = any(override.startswith("network.name=") for override in overrides)
    return (*TINY, *(() if named else network("convnet")), *overrides)


def tiny_settings(workspace: Workspace, *overrides: str) -> Settings:
    """Settings of a tiny run."""
    return workspace.settings(overrides=tiny_overrides(*overrides)).settings


def open_tiny(workspace: Workspace, *overrides: str) -> tuple[Task, TeacherBuffer]:
    """A task with trained teachers, where it needs any."""
    settings = tiny_settings(workspace, *overrides)
    task, buffer = run_to_end(open_task(workspace, settings))
    if settings.needs_teachers:
        buffer.open()
        run_to_end(train_teachers(task, buffer))
    return task, buffer


def first_state(task: Task, buffer: TeacherBuffer) -> State:
    """The state before iteration 1."""
    return run_to_end(method_of(task.settings).init_state(task, buffer))


def small_set(task: Task) -> SmallSet:
    """Two real images of every class, with labels that say nothing."""
    images = real_images(task, random_real(task, 2, "test"))
    return SmallSet(images, torch.full((len(images), task.classes), 1 / task.classes).to(images), 0.01)

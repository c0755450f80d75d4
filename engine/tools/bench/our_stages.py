"""In the measured process: the stages as a session runs them, through their public functions."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.data import ResidentImages, draw_augment, split_holdout
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from engine.session.open_task import open_task
from engine.tools.bench.cases import Compute
from engine.tools.bench.measuring import MemoryMeter, Stopwatch, stage_answer
from engine.tools.bench.reference_implementation_stages import LR
from engine.tools.bench.switches import apply_switches, read_switches
from engine.training.evaluation import evaluate_distilled
from engine.training.labels import class_index, hard_labels
from engine.training.real_images import random_real
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers
from engine.training.training_set import SmallSet


def prepare_ours(
    stage: str, folder: str, ipc: int, compute: dict[str, Any], resident: bool = True
) -> Callable[[], dict[str, Any]]:
    """What a process of `tesla bench` does for our side of a stage.

    Args:
        stage: teachers, evaluate or data.
        folder: a workspace.
        ipc: images per class.
        compute: fields of `Compute`.
        resident: images in memory; False to read every batch from the memory-mapped file.
    """
    chosen = Compute(**compute)
    apply_switches(chosen)
    workspace = Workspace(Path(folder))
    settings = workspace.settings(ipc=ipc).settings
    task, buffer = run_to_end(open_task(workspace, settings))
    apply_switches(chosen)  # a session sets its own
    if stage == "data":
        run = _epoch_of_data(task, resident)
    elif stage == "evaluate":
        run = _evaluation(task)
    else:
        run = _teacher(task, buffer)
    meter = MemoryMeter(task.device)

    def measure() -> dict[str, Any]:
        meter.forget()
        watch = Stopwatch(task.device)
        images = run()
        return stage_answer(watch, meter, images, read_switches(chosen, task.device))

    return measure


def _teacher(task: Task, buffer: TeacherBuffer) -> Callable[[], int]:
    identity = buffer.identity

    def run() -> int:
        # On the disk where real buffers are, with every snapshot synced and hashed.
        with tempfile.TemporaryDirectory(dir=buffer.folder.parent.parent) as folder:
            fresh = TeacherBuffer(Path(folder) / "buffer", identity)
            fresh.open()
            run_to_end(train_teachers(task, fresh))
        return len(task.train) * task.settings.trained_epochs * task.settings.teachers.count

    return run


def _evaluation(task: Task) -> Callable[[], int]:
    settings = task.settings
    ipc = settings.distill.ipc
    labels = hard_labels(class_index(task.classes, ipc).to(task.device), task.classes, task.dtype)
    images = task.train.images.encoded(random_real(task, ipc, "bench")).to(task.device, task.dtype)
    small = SmallSet(images, labels, LR)

    def run() -> int:
        run_to_end(
            evaluate_distilled(
                task, small, iteration=0, split="test", network=settings.network.name, repeats=settings.evaluate.repeats
            )
        )
        return settings.evaluate.repeats * settings.evaluate.epochs * len(images)

    return run


def _epoch_of_data(task: Task, resident: bool) -> Callable[[], int]:
    settings = task.settings
    images = task.train.images
    if not resident:
        kept, _ = split_holdout(task.dataset.train_labels, settings.dataset.holdout, settings.teacher_seed)
        images = ResidentImages(task.dataset.train_images, kept, task.space, task.device, budget=0)

    def run() -> int:
        order = torch.randperm(len(task.train), generator=counted_generator(0, "bench-order"))
        for step, index in enumerate(order.split(task.teacher_batch)):
            batch = images.encoded(index)
            draw_augment(counted_generator(0, "bench", step), settings.augment.ops, batch.shape, task.device)(batch)
            task.train.targets(index)
        return len(task.train)

    return run

"""Opening a task: the data of a workspace under given settings, on the device, with its teacher buffer.

`open_task` is for what distils: settings that can only be checked against the data are refused there, before anything
is written. `open_teachers` is for teachers alone, and `open_finished` for what only reads a run; they check no more.
"""

import json
from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from engine.data import ResidentImages, free_memory, image_budget
from engine.errors import TeslaError, UsageError, tesla
from engine.events import (
    DataReady,
    Event,
    Notice,
    Progress,
    with_progress,
)
from engine.methods.batch_coupling import check_shared
from engine.methods.registry import method_of
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.device import check_devices, configure
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.runtime.distributed.shared_folder import check_same_folder
from engine.runtime.mps import mps_notice
from engine.runtime.threads import run_in_thread
from engine.settings import Settings
from engine.training.labels import labels_from_teachers
from engine.training.real_images import check_ipc, starts_from_real
from engine.training.task import DTYPES, Split, Task
from engine.training.teacher_buffer import TeacherBuffer


def open_task(
    workspace: Workspace, settings: Settings, ranks: Ranks = ALONE
) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Data and buffer to distil with, on the device. Use as `yield from`.

    Raises:
        UsageError: settings that these data, this network or so many workers rule out.
    """
    check_same_folder(ranks, workspace.folder)
    task = yield from _open_data(workspace, settings, ranks)
    _check(task)
    buffer = _buffer(workspace, task, needed=settings.needs_teachers)
    _same_everywhere(ranks, {"teachers": buffer.identity, "settings": settings.model_dump(mode="json")})
    yield _ready(task)
    return task, buffer


def open_teachers(workspace: Workspace, settings: Settings) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Data and buffer to train teachers with and nothing else: settings of a run's later stages are not checked.

    Raises:
        UsageError: the network cannot have these images, or the imported buffer cannot be used.
    """
    task = yield from _open_data(workspace, settings, ALONE)
    task.flat_network()
    buffer = _buffer(workspace, task, needed=True)
    yield _ready(task)
    return task, buffer


def open_finished(workspace: Workspace, settings: Settings) -> Generator[Event, None, tuple[Task, TeacherBuffer]]:
    """Data and buffer to measure or export a run's images with, on the device. Use as `yield from`.

    Only labels that teachers give need an imported buffer to be there; other images are measured without it.

    Raises:
        UsageError: the labels come from an imported buffer that is missing or of another problem.
    """
    task = yield from _open_data(workspace, settings, ALONE)
    yield _ready(task)
    return task, _buffer(workspace, task, needed=labels_from_teachers(settings))


def _open_data(workspace: Workspace, settings: Settings, ranks: Ranks) -> Generator[Event, None, Task]:
    device = configure(settings.compute, ranks.place)
    check_devices(ranks, device)
    opened = yield from workspace.open_dataset(settings)
    dataset, kept, held = opened.dataset, opened.kept, opened.held
    space = opened.space.to(device, DTYPES[settings.compute.dtype])

    def parts() -> list[Split]:
        budget = image_budget(device.type, free_memory(device), settings.compute.image_memory)
        found = []
        for pixels, labels, index in (
            (dataset.train_images, dataset.train_labels, kept),
            (dataset.train_images, dataset.train_labels, held),
            (dataset.test_images, dataset.test_labels, np.arange(len(dataset.test_labels))),
        ):
            images = ResidentImages(pixels, index, space, device, budget)
            budget -= images.taken
            found.append(Split(images, torch.from_numpy(labels[index])))
        return found

    if device.type == "mps":
        yield Notice(level="warning", message=mps_notice(settings.compute))
    at = Progress(stage="data", done=1, total=1, unit="datasets")
    train, holdout, test = yield from with_progress(run_in_thread(parts), at, "loading the images")
    return Task(
        settings=settings, dataset=dataset, space=space, device=device,
        train=train, holdout=holdout, test=test, ranks=ranks,
    )  # fmt: skip


def _buffer(workspace: Workspace, task: Task, *, needed: bool) -> TeacherBuffer:
    """The buffer of these teachers. An imported one that cannot be used is an error only where it is needed."""
    try:
        identity = workspace.buffer_identity(task.settings, task.dataset)
    except TeslaError:
        if needed:
            raise
        identity = {}
    return TeacherBuffer(workspace.buffer_folder(task.settings, identity), identity)


def _ready(task: Task) -> DataReady:
    dataset = task.dataset
    return DataReady(
        name=dataset.name, classes=task.classes, channels=dataset.channels, resolution=dataset.resolution,
        train=len(task.train), holdout=len(task.holdout), test=len(task.test), names=list(dataset.classes),
        fingerprint=dataset.fingerprint,
    )  # fmt: skip


def _check(task: Task) -> None:
    """Settings that can only be checked against the data."""
    settings = task.settings
    if starts_from_real(settings) or settings.evaluate.baseline:
        check_ipc(task)
    if task.ranks.size > 1 and not method_of(settings).shares:
        raise UsageError(
            f"Several workers cannot share a run with distill.method = {settings.distill.method}.", "Use one worker."
        )
    if not settings.needs_teachers:
        for name in (*(settings.evaluate.networks or ()), None):
            task.fresh_network(0, name)
        return
    count, views = task.classes * settings.distill.ipc * task.decoder.views, task.decoder.views
    if task.matching_batch > count:
        raise UsageError(
            f"distill.batch = {task.matching_batch} is more than the {count} synthetic images "
            f"({task.classes} classes x IPC {settings.distill.ipc}{f' x {views} in each' if views > 1 else ''}).",
            "Set distill.batch = full, or a smaller number.",
        )
    for name in settings.evaluate.networks or ():
        task.fresh_network(0, name)
    task.flat_network()
    check_shared(task)


def check_distils(workspace: Workspace, run: Run, settings: Settings) -> None:
    """Refuse to distil an imported set: how it was made, and with which teachers, is unknown."""
    if run.origin is not None:
        raise UsageError(
            f"The run {run.name} was {run.origin.words}; it is not distilled further.",
            f"Measure it with: {tesla('evaluate', workspace.folder, '--run', run.name)}",
        )
    if settings.labels.kind == "given":
        raise UsageError(
            "labels.kind = given is for sets that come with labels, from `tesla import-images`.",
            "To distil choose hard, target, last or learned.",
        )


def _same_everywhere(ranks: Ranks, mine: dict[str, Any]) -> None:
    mine = json.loads(json.dumps(mine))
    theirs = ranks.led(mine)
    differing = [name for name in mine if mine[name] != theirs[name]]
    if differing:
        raise UsageError(
            f"Worker {ranks.rank} has other {' and '.join(differing)} than worker 0.",
            "All workers must see the same workspace and dataset, and be started with the same options.",
        )

"""How good the trained teachers are: accuracy on the held-out images, stored in the buffer and measured once.

    buffers/<name>/accuracy.json    what was measured on, and the accuracy of every measured snapshot by its sha256

At most 5 trajectories and 2000 images: less than an epoch of training. Which ones follows from the settings alone.
"""

import statistics
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from engine.errors import CorruptFileError, counted
from engine.events import Event, Notice, Progress, TeachersMeasured
from engine.networks.flat import FlatNetwork
from engine.runs.judgement import teachers_problem
from engine.runtime.generators import map_events
from engine.runtime.rng import counted_generator
from engine.storage.atomic import FORMAT, read_json, write_json
from engine.storage.untrusted import number, typed
from engine.storage.versions import check_format
from engine.training.evaluation import guessing
from engine.training.labels import CHUNK, labelling
from engine.training.task import Split, Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import STAGE, train_teachers

MOST_TEACHERS = 5
"""Trajectories that are measured: the first ones."""
MOST_IMAGES = 2000
"""Images they are measured on: a standard error of at most 1.1 points."""
FEW_STEPS = 20
"""Steps of an epoch below which a smaller batch is the first advice."""
FILE = "accuracy.json"


@dataclass(frozen=True)
class _Record:
    """The file."""

    measured_on: dict[str, Any]
    accuracies: dict[str, Any] = field(default_factory=dict)


def teacher_stage(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, None]:
    """Train the teachers that are missing, then measure them. See `train_teachers`, `measure_teachers`."""
    yield from train_teachers(task, buffer)
    if task.ranks.writes:
        yield from measure_teachers(task, buffer)


def measure_teachers(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, None]:
    """Report the accuracy of the last snapshot that is used of the first trajectories, and warn if it is near guessing.

    Accuracies that are stored for the same snapshots and images are not measured again.

    Raises:
        CorruptFileError: a snapshot is damaged.
    """
    settings = task.settings
    epoch, count = settings.trained_epochs, settings.teachers.count
    split = "holdout" if len(task.holdout) else "train"
    images = task.holdout if len(task.holdout) else task.train
    chosen = torch.randperm(len(images), generator=counted_generator(settings.teacher_seed, "teacher-accuracy"))[
        :MOST_IMAGES
    ]
    measured_on = {
        "dataset": task.dataset.fingerprint, "holdout": settings.dataset.holdout, "seed": settings.teacher_seed,
        "split": split, "images": len(chosen),
    }  # fmt: skip
    known = _stored(buffer, measured_on)
    checksums: list[str] = []
    network = task.flat_network()
    measured = min(count, MOST_TEACHERS)
    for trajectory in range(measured):
        record = buffer.record(trajectory)
        checksum = "" if record is None or record.epochs < epoch else record.checksums[epoch]
        if checksum not in known:
            at = Progress(stage=STAGE, done=trajectory, total=measured, unit="trajectories", detail="measuring")
            theta = buffer.read(trajectory, epoch)[0].to(task.device, task.dtype)
            known[checksum] = yield from _accuracy(task, network, theta, images, chosen, at)
        checksums.append(checksum)
    _store(buffer, measured_on, {checksum: known[checksum] for checksum in checksums})
    accuracies = [known[checksum] for checksum in checksums]
    event = TeachersMeasured(
        buffer=buffer.folder.name, split=split, images=len(chosen), guessing=guessing(images.labels[chosen]),
        epoch=epoch, steps=-(-len(task.train) // task.teacher_batch), count=count,
        mean=statistics.fmean(accuracies), std=statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        accuracies=accuracies,
    )  # fmt: skip
    yield event
    if problem := teachers_problem(event, _advice(task, event)):
        yield Notice(level="warning", message=problem, about="teachers")


def _accuracy(
    task: Task, network: FlatNetwork, theta: torch.Tensor, images: Split, chosen: torch.Tensor, at: Progress
) -> Generator[Event, None, float]:
    correct = torch.zeros((), dtype=torch.int64, device=task.device)
    for index in chosen.split(CHUNK):
        batch = images.images.encoded(index).to(task.dtype)
        logits = yield from map_events(labelling(network, theta, batch, logits=True), lambda _: at)
        correct += (logits.argmax(dim=1) == images.targets(index)).sum()
    return correct.item() / len(chosen)


def _advice(task: Task, measured: TeachersMeasured) -> str:
    """Which settings make better teachers."""
    settings = task.settings
    if settings.teachers.buffer is not None:
        return "Import a buffer of better teachers, or check that it is of this dataset and input space."
    taken = f"They took {counted(measured.epoch, 'epoch')} of {counted(measured.steps, 'step')}"
    longer = "teachers.epochs" if settings.labels.kind == "last" else "distill.max_start_epoch and teachers.epochs"
    if measured.steps < FEW_STEPS:
        return f"{taken}: set a smaller teachers.batch (now {task.teacher_batch}), or raise {longer}."
    return f"{taken}: raise {longer}, or change teachers.lr (now {settings.teachers.lr:g})."


def _stored(buffer: TeacherBuffer, measured_on: dict[str, Any]) -> dict[str, float]:
    """Stored accuracies by the snapshot's sha256; none if they were measured on other images, or the file is damaged.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    path = buffer.folder / FILE
    try:
        value = read_json(path)
        check_format(value.get("format") if isinstance(value, dict) else None, FORMAT, path)
        record = typed(_Record, value)
    except (FileNotFoundError, CorruptFileError, ValueError):
        return {}
    if record.measured_on != measured_on:
        return {}
    return {checksum: found for checksum, found in record.accuracies.items() if number(found) and 0 <= found <= 1}


def _store(buffer: TeacherBuffer, measured_on: dict[str, Any], accuracies: dict[str, float]) -> None:
    if _stored(buffer, measured_on) != accuracies:
        buffer.check_there()
        with suppress(OSError):  # a buffer that is read-only: measured each time
            write_json(
                buffer.folder / FILE,
                {"format": FORMAT, "measured_on": measured_on, "accuracies": accuracies},
                tidy=True,
            )

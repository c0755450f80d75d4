"""Short runs of training: a teacher, and an evaluated network. Each function here is called in its own process.

What only adds up (all synthetic images, the dataset) is not allocated. A batch that would take too long is not started:
smaller ones are measured, and scaled up by those who read the result (`size` of `whole` images).
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from engine.events import Event, Progress, TeacherEpoch
from engine.runtime.generators import run_to_end
from engine.settings import Settings
from engine.tools.plan.compiling import Compiling, is_compiling, training_compiling
from engine.tools.plan.growing import Allowance, Point, first_size, grow
from engine.tools.plan.problem import Found, epochs_of
from engine.tools.plan.sizes import graph_bytes
from engine.tools.plan.synthetic import Meter, Shape, Stopwatch, changed, random_task
from engine.training.compile_policy import forward_flops
from engine.training.evaluation import (
    MEASURE,
    MEASURE_PIXELS,
    RULE,
    measure,
    planned_steps,
    train_on_small,
)
from engine.training.sgd import Trainer
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import teacher_rule, train_teachers
from engine.training.trainer import trainer
from engine.training.training_set import SmallSet

SEEN = 4
"""Images that a graph is counted with."""
TEACHER_BATCHES = 16
"""Batches in an epoch of the measured teacher."""


def teachers(settings: str, shape: Shape, images: int, folder: str, enough: float, most: float, room: int) -> Found:
    """Seconds per image and per snapshot of a teacher, and the memory it takes.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        images: that the real teachers see.
        folder: for files.
        enough: seconds to spend, about.
        most: seconds that must not be exceeded.
        room: bytes of memory that may be taken.
    """
    allowance = Allowance(most)
    wanted = Settings.model_validate_json(settings)
    batch = min(images, wanted.teachers.batch)
    task = random_task(wanted, shape, Path(folder), train=1, measured=1)
    model = task.fresh_network(0).train()
    flops = 3 * forward_flops(model, torch.zeros((1, *task.image_shape)).to(task.device, task.dtype))
    steps = wanted.teachers.count * wanted.trained_epochs
    counts = {batch: steps * (images // batch), images % batch: steps}
    rule = teacher_rule(wanted)
    compiling = training_compiling(wanted, task, model, task.network_name, rule, counts)
    meter = Meter(task.device)

    def once(size: int, mode: str = "off") -> tuple[Found, int]:
        seconds = enough if size == batch else 0.0
        found = _teacher(wanted, shape, images, size, Path(folder) / f"{size}-{mode}", mode, seconds, allowance)
        return found, _used(meter, task)

    kept = graph_bytes(task, torch.zeros((SEEN, *task.image_shape)).to(task.device, task.dtype), batch, model)
    points = grow(batch, first_size(batch, rule.gradients * flops), once, allowance, room)
    best = points[-1].found
    compiled = _compiled(compiling, allowance, points, batch, lambda: once(batch, "on")[0])
    return {**meter.read(), **best, **compiled, **_sizes(points, batch), "graph_bytes": kept,
            "inside": allowance.spent}  # fmt: skip


def _teacher(
    wanted: Settings, shape: Shape, images: int, batch: int, folder: Path, mode: str, enough: float,
    allowance: Allowance,
) -> Found:  # fmt: skip
    """A teacher with batches of one size, for `enough` seconds or a few steps."""
    # One trajectory of many short epochs: it is stopped long before it is complete, whatever its size on the disk.
    asked = changed(wanted, "teachers", count=1, batch=batch)
    asked = changed(asked, "compute", room="warn", compile=mode)
    task = random_task(asked, shape, folder, train=min(images, TEACHER_BATCHES * batch), measured=1)
    buffer = TeacherBuffer(folder, {})
    buffer.open()
    stage = train_teachers(task, buffer)
    batches: list[float] = []
    snapshots: list[float] = []
    compiling = 0.0
    begun, watch = perf_counter(), Stopwatch(task.device)
    for event in stage:
        seconds = watch.lap()
        if isinstance(event, TeacherEpoch):
            snapshots.append(seconds)  # since the last batch
        elif is_compiling(event):
            compiling += seconds
        elif isinstance(event, Progress):
            batches.append(seconds)
        spent = perf_counter() - begun
        if batches and (allowance.left < 0 or (spent - compiling > enough and (len(batches) > 1 or spent > 1.0))):
            break
        if not batches and allowance.left < 0 and mode == "on":
            break  # it compiles for too long
    stage.close()
    plain = batches[1:] or batches  # the first one makes the network and warms up
    return {
        "seconds_per_image": median(plain) / batch if plain else 0.0,
        "snapshot_seconds": median(snapshots) if snapshots else 0.0,
        "compiling": compiling,
    }


def evaluation(
    settings: str, shape: Shape, images: int, network: str, folder: str, enough: float, most: float, room: int
) -> Found:
    """Seconds of an epoch over synthetic images and of measuring a real one, and the memory they take.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        images: N, synthetic images of the run.
        network: which.
        folder: for files.
        enough: seconds to spend on either, about.
        most: seconds that must not be exceeded.
        room: bytes of memory that may be taken.
    """
    allowance = Allowance(most)
    asked = Settings.model_validate_json(settings)
    wanted = changed(asked, "evaluate", epochs=10**6)  # stopped long before
    count = min(images, asked.evaluate.batch)
    whole = max(1, min(MEASURE, MEASURE_PIXELS // shape[2] ** 2))
    task = random_task(wanted, shape, Path(folder), train=shape[0], measured=whole)
    watch = Stopwatch(task.device)
    model = task.fresh_network(0, network).train()
    besides = watch.lap()
    flops = forward_flops(model, torch.zeros((1, *task.image_shape)).to(task.device, task.dtype))
    # Compiled or not as the run's own counts decide.
    counts = planned_steps(replace(task, settings=asked), network, images, epochs_of(asked))
    compiling = training_compiling(asked, task, model, network, RULE, counts)
    meter = Meter(task.device)

    def once(size: int, mode: str = "off") -> tuple[Found, int]:
        seconds = enough / 2 if size == count else 0.0
        return _epochs(task, network, size, mode, seconds, allowance), _used(meter, task)

    def once_measured(size: int) -> tuple[Found, int]:
        return {"seconds_per_measured": _measuring(task, model, size, enough / 4)}, _used(meter, task)

    kept = graph_bytes(task, torch.zeros((SEEN, *task.image_shape)).to(task.device, task.dtype), count, model)
    points = grow(count, first_size(count, 3 * flops), once, allowance, room)
    compiled = _compiled(compiling, allowance, points, count, lambda: once(count, "on")[0])
    measured = grow(whole, first_size(whole, flops), once_measured, allowance, room)
    return {
        **meter.read(), **points[-1].found, **measured[-1].found, **compiled, **_sizes(points, count),
        "seconds_besides": besides, "graph_bytes": kept, "inside": allowance.spent,
    }  # fmt: skip


def _epochs(task: Task, network: str, size: int, mode: str, enough: float, allowance: Allowance) -> Found:
    """Epochs over one batch of that size."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((size, *task.image_shape), generator=generator).to(task.device, task.dtype)
    labels = torch.rand((size, task.classes), generator=generator).softmax(dim=1).to(task.device, task.dtype)
    small = SmallSet(pixels, labels, task.settings.distill.student_lr)
    task = replace(task, settings=changed(task.settings, "compute", compile=mode))
    model = task.fresh_network(0, network).train()
    at = Progress(stage="evaluation", done=0, total=1, unit="networks")
    begun = perf_counter()
    learner = _within(trainer(task, model, network, RULE, [(pixels, labels)], {size: 1}, at), allowance)
    compiling = perf_counter() - begun if mode == "on" else 0.0
    epochs: list[float] = []
    if learner is not None:
        training = train_on_small(task, learner, small, 0)
        begun, watch = perf_counter(), Stopwatch(task.device)
        while not epochs or (allowance.left > 0 and (perf_counter() - begun < enough or len(epochs) < 3)):
            watch.restart()
            next(training)
            epochs.append(watch.lap())
            if epochs[0] > 1.0:
                break
        training.close()
    each = median(epochs[1:] or epochs) if epochs else 0.0
    return {"seconds_per_epoch": each, "images": size, "compiling": compiling}


def _measuring(task: Task, model: torch.nn.Module, size: int, enough: float) -> float:
    """Seconds per real image that is measured."""
    part = replace(task.test, labels=task.test.labels[:size])
    passes: list[float] = []
    watch = Stopwatch(task.device)
    while len(passes) < 3 and sum(passes) <= enough:
        watch.restart()
        run_to_end(measure(model, part, 0, 1))
        passes.append(watch.lap())
    return min(passes) / size


def _compiled(
    compiling: Compiling, allowance: Allowance, points: list[Point], whole: int, again: Callable[[], Found]
) -> Found:
    """The measurement once more with compiled steps, if the run has them and there is time; else what is known."""
    known = {"compiled": compiling.wanted, "seen": False, "compiling": compiling.expected}
    last = points[-1]
    if last.size < whole or not compiling.fits(allowance, 2 * last.cost):
        return known
    found = again()
    if not (found.get("seconds_per_image") or found.get("seconds_per_epoch")):
        return known  # the cache did not have it after all, and there was not enough time
    cold = 1 if compiling.ready else compiling.shapes
    return {**found, "compiled": True, "seen": True, "compiling": found["compiling"] * cold}


def _sizes(points: list[Point], whole: int) -> Found:
    """What was measured of a batch, and the memory of the two largest sizes."""
    return {"size": points[-1].size, "whole": whole, "points": [(point.size, point.bytes) for point in points[-2:]]}


def _used(meter: Meter, task: Task) -> int:
    """Bytes of the device in use at most since the meter was made."""
    return meter.read()["host" if task.device.type == "cpu" else "device"]


def _within(preparing: Generator[Event, None, Trainer], allowance: Allowance) -> Trainer | None:
    """The trainer; None if making it takes longer than is allowed."""
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            made: Trainer = end.value
            return made
        if allowance.left < 0:
            preparing.close()
            return None

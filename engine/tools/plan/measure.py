"""Short runs of the real stages: each function here is called in its own process.

What only adds up (all synthetic images, the dataset) is not allocated.
"""

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from engine.errors import TeslaError
from engine.events import Event, IterationDone, IterationSkipped, Progress, TeacherEpoch
from engine.matching.steps import saved_bytes, student_loss
from engine.methods.method import State
from engine.methods.tesla import TESLA
from engine.methods.tesla_state import DistillState, initial_state
from engine.networks.flat import flatten_parameters, load_parameters
from engine.runtime.generators import run_to_end
from engine.settings import Settings
from engine.storage.atomic import write_tensors
from engine.tools.plan.problem import Found, epochs_of
from engine.tools.plan.synthetic import Meter, Shape, changed, random_task, random_trajectory, synchronise
from engine.training.evaluation import BATCH, MEASURE, RULE, measure, planned_steps, train_on_small
from engine.training.labels import CHUNK, labelling
from engine.training.sgd import Trainer
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers
from engine.training.trainer import trainer
from engine.training.training_set import SmallSet

MOST = 6.0
"""An iteration of up to this many times the given seconds is measured whole; of longer ones a few steps."""
TEACHER_BATCHES = 16
"""Batches in an epoch of the measured teacher."""
SAMPLE = 2**26
"""Bytes written to learn the disk's speed."""


def teachers(settings: str, shape: Shape, images: int, folder: str, enough: float) -> Found:
    """Seconds per image and per snapshot of a teacher, and the memory it takes.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        images: that the real teachers see.
        folder: for files.
        enough: seconds to spend, about.
    """
    wanted = Settings.model_validate_json(settings)
    count = min(images, TEACHER_BATCHES * wanted.teachers.batch)
    # As many steps in all as the run has, on fewer images: whether they are compiled depends on it.
    wanted = changed(wanted, "teachers", count=math.ceil(wanted.teachers.count * images / count))
    # So many teachers need not fit on the disk: a few epochs of one are written.
    wanted = changed(wanted, "compute", room="warn")
    task = random_task(wanted, shape, Path(folder), train=count, measured=1)
    buffer = TeacherBuffer(Path(folder) / "teachers", {})
    buffer.open()
    meter = Meter(task.device)
    stage = train_teachers(task, buffer)
    done = spent = compiling = 0.0
    snapshots: list[float] = []
    before: float | None = None
    begun = last = time.perf_counter()
    for event in stage:
        synchronise(task.device)
        now = time.perf_counter()
        if isinstance(event, TeacherEpoch):
            snapshots.append(now - last)  # since the last batch: the snapshot
            before = None
        elif isinstance(event, Progress) and event.detail.startswith("compiling"):
            compiling = now - begun
        elif isinstance(event, Progress):
            if before is not None:
                done += event.done - before
                spent += now - last
            before = event.done
        last = now
        if now - begun > enough + compiling and done > 0:
            break
    stage.close()
    # With a single batch per epoch, two reports of one have nothing between them: use whole epochs.
    each = spent / (done * count) if done > 0 else (last - begun) / max(1, len(snapshots)) / count
    return {**meter.read(), "seconds_per_image": each, "compiling": compiling,
            "snapshot_seconds": median(snapshots) if snapshots else 0.0}  # fmt: skip


def matching(settings: str, shape: Shape, ipc: int, folder: str, enough: float, step: float, probe: bool) -> Found:
    """Seconds of an iteration and the memory of a matching step.

    Args:
        settings: of the run, as JSON, with `compute.compile` on or off.
        shape: classes, channels, resolution.
        ipc: images per class that are made here: enough for whole batches.
        folder: for files.
        enough: seconds to spend, about.
        step: what a step is expected to take, seconds; 0 if that is not known.
        probe: a single eager step only.
    """
    wanted = changed(Settings.model_validate_json(settings), "teachers", count=1, epochs=1)
    # Rates of next to nothing: random targets mean nothing, and images must not run away with them.
    wanted = changed(
        wanted, "distill", ipc=ipc, init="noise", teacher_epochs=1, min_start_epoch=0, max_start_epoch=1,
        current_max_start_epoch="max", iterations=10**6,
        lr_images=1e-9, lr_student_lr=0.0, max_loss=1e30,
    )  # fmt: skip
    one = changed(changed(wanted, "distill", steps=1), "compute", compile="off")
    task = random_task(one, shape, Path(folder), train=shape[0], measured=1)
    buffer = random_trajectory(task, Path(folder) / "matching")
    state = initial_state(task)
    meter = Meter(task.device)
    seconds = [] if step else _iterations(task, buffer, state, enough / 4)
    steps, compiling = 1, 0.0
    if not probe:
        step = step or min(seconds)
        steps = wanted.distill.steps
        full = wanted
        if step * steps > MOST * enough:
            steps = min(steps, max(2, int(MOST * enough / step)))
            full = changed(wanted, "distill", steps=steps, store="device")  # what another store costs is added after
        task = random_task(full, shape, Path(folder), train=shape[0], measured=1)
        begun = time.perf_counter()
        seconds = _iterations(task, buffer, state, enough)
        compiling = time.perf_counter() - begun - sum(seconds) if wanted.compute.compile == "on" else 0.0
    found = meter.read()
    return {
        **found,
        "steps": steps,
        "images": len(state.images),
        "state_bytes": sum(tensor.nbytes for tensor in state.tensors().values()),
        "seconds": median(seconds[1:] or seconds),
        "compiling": compiling,
        "label_seconds": _label_seconds(task, state),
        "parameters": task.flat_network().size,
        "graph_bytes": _graph_bytes(task, state),
        **disk_speed(state, Path(folder)),
    }


def evaluation(settings: str, shape: Shape, images: int, network: str, folder: str, enough: float) -> Found:
    """Seconds of an epoch over synthetic images and of measuring a real one, and the memory they take.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        images: N, synthetic images of the run.
        network: which.
        folder: for files.
        enough: seconds to spend on either, about.
    """
    wanted = changed(Settings.model_validate_json(settings), "evaluate", epochs=10**6)  # stopped long before
    count = min(images, BATCH)
    task = random_task(wanted, shape, Path(folder), train=shape[0], measured=2 * MEASURE)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((count, *task.image_shape), generator=generator).to(task.device, task.dtype)
    labels = torch.rand((count, shape[0]), generator=generator).softmax(dim=1).to(task.device, task.dtype)
    small = SmallSet(pixels, labels, wanted.distill.student_lr)
    meter = Meter(task.device)
    begun = time.perf_counter()
    model = task.fresh_network(0, network).train()
    ready = time.perf_counter()
    # Compiled or not as the run's own counts decide.
    asked = replace(task, settings=Settings.model_validate_json(settings))
    counts = planned_steps(asked, network, images, epochs_of(asked.settings))
    at = Progress(stage="evaluation", done=0, total=1, unit="networks")
    learner, compiled = _prepared(trainer(asked, model, network, RULE, [(pixels, labels)], counts, at))
    compiling = time.perf_counter() - ready if compiled else 0.0
    epochs: list[float] = []
    training = train_on_small(task, learner, small, 0)
    while sum(epochs) < enough / 2:
        started = time.perf_counter()
        next(training)
        synchronise(task.device)
        epochs.append(time.perf_counter() - started)
    training.close()
    load_parameters(model, learner.theta())
    passes: list[float] = []
    for _ in range(2):
        started = time.perf_counter()
        run_to_end(measure(model, task.test, 0, 1))
        synchronise(task.device)
        passes.append(time.perf_counter() - started)
        if passes[0] > enough:
            break
    return {
        **meter.read(),
        "images": count,
        "seconds_per_epoch": median(epochs[1:] or epochs),
        "seconds_per_measured": min(passes) / (2 * MEASURE),
        "seconds_besides": ready - begun,
        "compiling": compiling,
    }


def _prepared(preparing: Generator[Event, None, Trainer]) -> tuple[Trainer, bool]:
    """A trainer, and whether it reported anything: it does when it compiles, and only then."""
    told = False
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            return end.value, told
        told = True


def _iterations(task: Task, buffer: TeacherBuffer, state: DistillState, most: float) -> list[float]:
    """Seconds of each iteration, until they are `most` in all; two at least, unless one takes twice that."""
    seconds: list[float] = []
    step = TESLA.make_step(task, buffer, None)
    while state.iteration < task.settings.distill.iterations:
        for event in step(state):
            if isinstance(event, IterationSkipped):
                raise TeslaError(f"The measured iteration failed: {event.reason}.", "See `tesla doctor`.")
            if isinstance(event, IterationDone):
                synchronise(task.device)
                seconds.append(event.seconds)
        if sum(seconds) > most and (len(seconds) > 1 or seconds[0] > 2 * most):
            break
    return seconds


def _label_seconds(task: Task, state: DistillState) -> float:
    """Seconds that a teacher takes to label one image."""
    images = state.images[:CHUNK]
    network = task.flat_network()
    theta = flatten_parameters(task.fresh_network(0))
    run_to_end(labelling(network, theta, images[: max(1, CHUNK // 8)]))  # warm
    synchronise(task.device)
    begun = time.perf_counter()
    run_to_end(labelling(network, theta, images))
    synchronise(task.device)
    return (time.perf_counter() - begun) / len(images)


def _graph_bytes(task: Task, state: DistillState) -> int:
    """What a first-order graph of a batch keeps alive, from an eighth of the batch."""
    size = task.settings.distill.batch
    batch = len(state.images) if size == "full" else min(size, len(state.images))
    part = max(1, batch // 8)
    network = task.flat_network()
    theta = flatten_parameters(task.fresh_network(0)).requires_grad_()
    labels = torch.zeros((part, task.classes), dtype=task.dtype, device=task.device)
    _, size_of_part = saved_bytes(lambda: student_loss(network, theta, state.images[:part], labels))
    return size_of_part * batch // part


def disk_speed(state: State, folder: Path) -> Found:
    """Seconds to save the small checkpoint of this task, and bytes a second of a large one."""
    begun = time.perf_counter()
    write_tensors(folder / "small.safetensors", state.tensors(), {})
    between = time.perf_counter()
    write_tensors(folder / "large.safetensors", {"sample": torch.zeros(SAMPLE // 4)}, {})
    return {"save_seconds": between - begun, "save_rate": SAMPLE / (time.perf_counter() - between)}

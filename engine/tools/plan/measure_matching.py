"""A short run of matching steps, in its own process: at growing batches up to the run's own, then whole iterations."""

import time
from pathlib import Path
from statistics import median

import torch

from engine.errors import TeslaError
from engine.events import IterationSkipped
from engine.methods.method import State
from engine.methods.tesla import TESLA
from engine.methods.tesla_state import DistillState, initial_state
from engine.networks.flat import flatten_parameters
from engine.runtime.generators import run_to_end
from engine.settings import Settings
from engine.storage.atomic import write_tensors
from engine.tools.plan.compiling import is_compiling, matching_compiling
from engine.tools.plan.growing import Allowance, Point, first_size, grow
from engine.tools.plan.problem import Found, matching_batch, step_units
from engine.tools.plan.sizes import graph_bytes
from engine.tools.plan.synthetic import Meter, Shape, Stopwatch, changed, random_task, random_trajectory
from engine.training.compile_policy import forward_flops
from engine.training.labels import CHUNK, CHUNK_PIXELS, labelling
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

SAMPLE = 2**26
"""Bytes written to learn the disk's speed."""
FEW = 2
"""Matching steps of a short iteration: one as the first one is, one as all others are."""


def matching(
    settings: str, shape: Shape, images: int, ipc: int, compiled: bool, folder: str, enough: float, most: float,
    room: int,
) -> Found:  # fmt: skip
    """Seconds of an iteration and the memory of a matching step.

    Labels are not assigned in the measured iterations, but measured by themselves.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        images: N, synthetic images of the run.
        ipc: images per class that are made here: enough for whole batches.
        compiled: whether the run's steps are.
        folder: for files.
        enough: seconds to spend, about.
        most: seconds that must not be exceeded.
        room: bytes of memory that may be taken.
    """
    allowance = Allowance(most)
    run = Settings.model_validate_json(settings)
    wanted = _harmless(run, ipc)
    task = random_task(wanted, shape, Path(folder), train=shape[0], measured=1)
    buffer = random_trajectory(task, Path(folder) / "matching")
    state = initial_state(task)
    views = task.decoder.views
    batch = matching_batch(run, images, views)
    flops = forward_flops(task.flat_network().model, torch.zeros((1, *task.image_shape)).to(task.device, task.dtype))
    few = min(FEW, wanted.distill.steps)
    meter = Meter(task.device)

    def once(size: int) -> tuple[Found, int]:
        smaller = _asked(wanted, size, few)
        part = random_task(smaller, shape, Path(folder), train=shape[0], measured=1)
        seconds, _ = _iterations(part, buffer, state, min(1.0, enough / 4), allowance, must=True)
        used = meter.read()["host" if task.device.type == "cpu" else "device"]
        return {"seconds": min(seconds), "steps": few}, used

    points = grow(batch, first_size(batch, step_units(wanted.distill.gradient, few) * flops), once, allowance, room)
    rest = images * views % batch
    sizes = {batch, rest} if rest else {batch}
    compiling = matching_compiling(run, task, compiled, sizes)
    longer = _longer(wanted, points, allowance, enough)
    label_seconds = _label_seconds(task, state)
    found: Found = {**points[-1].found, "compiled": compiled, "seen": False, "compiling": compiling.expected}
    if points[-1].size == batch:
        again = random_task(_asked(wanted, batch, longer), shape, Path(folder), train=shape[0], measured=1)
        if compiling.fits(allowance, 2.0 * points[-1].found["seconds"]):
            fast = random_task(_asked(wanted, batch, longer, "on"), shape, Path(folder), train=shape[0], measured=1)
            seconds, spent = _iterations(fast, buffer, state, enough, allowance)
            if seconds:
                cold = 1 if compiling.ready else compiling.shapes
                found |= {"seconds": median(seconds), "steps": longer, "seen": True, "compiling": spent * cold}
        if not found["seen"]:
            seconds, _ = _iterations(again, buffer, state, enough, allowance)
            if seconds:
                found |= {"seconds": median(seconds[1:] or seconds), "steps": longer}
    return {
        **meter.read(), **found,
        "batch": points[-1].size, "points": [(point.size, point.bytes) for point in points[-2:]], "few": few,
        "images": len(state.images), "label_seconds": label_seconds,
        "state_bytes": sum(tensor.nbytes for tensor in state.tensors().values()),
        "parameters": task.flat_network().size,
        "graph_bytes": graph_bytes(task, state.images, batch, task.fresh_network(0)),
        **disk_speed(state, Path(folder)), "whole": batch, "inside": allowance.spent,
    }  # fmt: skip


def _harmless(run: Settings, ipc: int) -> Settings:
    """Settings whose iterations change next to nothing: random targets mean nothing, and images must not run away."""
    wanted = changed(run, "teachers", count=1, epochs=1)
    wanted = changed(
        wanted, "distill", ipc=ipc, init="noise", teacher_epochs=1, min_start_epoch=0, max_start_epoch=1,
        current_max_start_epoch="max", iterations=10**6, lr_images=1e-9, lr_student_lr=0.0, max_loss=1e30,
    )  # fmt: skip
    if wanted.labels.kind in ("target", "last"):  # assigned by themselves
        wanted = changed(wanted, "labels", kind="hard")
    return wanted


def _asked(wanted: Settings, batch: int, steps: int, compiled: str = "off") -> Settings:
    """For iterations of that many steps. What another store costs is added by those who read the result."""
    store = wanted.distill.store if steps == wanted.distill.steps else "device"
    asked = changed(wanted, "distill", batch=batch, steps=steps, store=store)
    return changed(asked, "compute", compile=compiled)


def _longer(wanted: Settings, points: list[Point], allowance: Allowance, enough: float) -> int:
    """Steps of an iteration that takes about as long as is allowed; all of them if they do."""
    steps, few = wanted.distill.steps, int(points[-1].found["steps"])
    if wanted.distill.gradient == "unrolled":
        return few  # memory grows with the steps
    unit = points[-1].found["seconds"] / step_units(wanted.distill.gradient, few)
    spend = min(2 * enough, allowance.left / 3)
    if 2 * unit * step_units(wanted.distill.gradient, steps) <= spend:
        return steps
    fitting = int(spend / (2 * unit * step_units(wanted.distill.gradient, 1)))
    return max(few, min(steps, fitting))


def _iterations(
    task: Task, buffer: TeacherBuffer, state: DistillState, most: float, allowance: Allowance, *, must: bool = False
) -> tuple[list[float], float]:
    """Seconds of each plain iteration, until they are `most` in all, and the seconds of compiling before them.

    An iteration in which something was compiled is none of them. The allowance ends an iteration that is under way,
    unless there `must` be one.
    """
    seconds: list[float] = []
    compiling, dirty = 0.0, task.settings.compute.compile == "on"
    step = TESLA.make_step(task, buffer, None)
    started, watch = time.perf_counter(), Stopwatch(task.device)
    while True:
        stage = step(state)
        for event in stage:
            if is_compiling(event):
                compiling += watch.lap()
            if allowance.left < 0 and not must:
                stage.close()
                return seconds, compiling
            if isinstance(event, IterationSkipped):
                raise TeslaError(f"The measured iteration failed: {event.reason}.", "See `tesla doctor`.")
        spent = watch.lap()
        if dirty:
            dirty, started = False, time.perf_counter()
            continue
        seconds.append(spent)
        passed = time.perf_counter() - started
        if (passed > most or allowance.left < 0) and (len(seconds) > 1 or passed > most / 2):
            return seconds, compiling


def _label_seconds(task: Task, state: DistillState) -> float:
    """Seconds that a teacher takes to label one image."""
    most = max(1, min(CHUNK, CHUNK_PIXELS // task.image_shape[1] ** 2, len(state.images)))
    network = task.flat_network()
    theta = flatten_parameters(task.fresh_network(0))
    watch, taken, each = Stopwatch(task.device), 0.0, 0.0
    for count in (max(1, most // 16), most):  # the first one warms up
        if taken > 0.5:
            break
        watch.restart()
        run_to_end(labelling(network, theta, state.images[:count]))
        taken = watch.lap()
        each = taken / count
    return each


def disk_speed(state: State, folder: Path) -> Found:
    """Seconds to save the small checkpoint of this task, and bytes a second of a large one."""
    begun = time.perf_counter()
    write_tensors(folder / "small.safetensors", state.tensors(), {})
    between = time.perf_counter()
    write_tensors(folder / "large.safetensors", {"sample": torch.zeros(SAMPLE // 4)}, {})
    return {"save_seconds": between - begun, "save_rate": SAMPLE / (time.perf_counter() - between)}

"""A short run of a method without teachers: of its own first state and iterations, in its own process.

It is measured on growing numbers of classes: all of these methods look at one class after the other, or at images of
all of them alike.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from engine.errors import TeslaError
from engine.events import Event, IterationDone, IterationSkipped, Progress
from engine.methods.method import Method
from engine.methods.registry import method_of
from engine.runtime.generators import run_to_end
from engine.settings import Settings
from engine.tools.plan.growing import Allowance, first_size, grow
from engine.tools.plan.measure_matching import disk_speed
from engine.tools.plan.problem import Found
from engine.tools.plan.synthetic import Meter, Shape, Stopwatch, changed, random_task
from engine.training.compile_policy import forward_flops
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

MOST_REAL = 2**28
"""Bytes of real images that are made: of as many whole classes as fit, of one at least."""


def iteration(
    settings: str, shape: Shape, ipc: int, per_class: int, folder: str, enough: float, most: float, room: int
) -> Found:
    """Seconds to make the first state and of an iteration, and the memory both take.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        ipc: images per class.
        per_class: real images that the method looks at in a class.
        folder: for files.
        enough: seconds to spend, about.
        most: seconds that must not be exceeded, but for the smallest piece.
        room: bytes of memory that may be taken.
    """
    allowance = Allowance(most)
    # A rate of next to nothing: noise means nothing, and images must not run away with it.
    wanted = changed(Settings.model_validate_json(settings), "distill", ipc=ipc, iterations=10**6, lr_images=1e-9)
    task = random_task(wanted, shape, Path(folder), train=shape[0], measured=1)
    model = task.fresh_network(0)
    flops = forward_flops(model, torch.zeros((1, *task.image_shape)).to(task.device, task.dtype))
    in_class = flops * (3 * min(per_class, wanted.peers.batch_real) + 12 * ipc) if wanted.traits.iterates else 0
    largest = max(1, min(shape[0], MOST_REAL // (per_class * shape[1] * shape[2] ** 2)))
    meter = Meter(task.device)
    states: list[Any] = []

    def once(classes: int) -> tuple[Found, int]:
        part = random_task(wanted, (classes, *shape[1:]), Path(folder), train=classes * per_class, measured=1)
        found, state = _once(part, enough if classes == largest else enough / 4, allowance)
        states[:] = [state]
        return {**found, "classes": classes}, meter.read()["host" if task.device.type == "cpu" else "device"]

    points = grow(largest, first_size(largest, in_class), once, allowance, room)
    real = per_class * shape[1] * shape[2] ** 2 if task.device.type == "cpu" else 0
    return {
        **meter.read(), **points[-1].found, "all_classes": shape[0],
        "points": [(point.size, max(0, point.bytes - point.size * real)) for point in points[-2:]],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **disk_speed(states[0], Path(folder)), "inside": allowance.spent,
    }  # fmt: skip


def _once(task: Task, enough: float, allowance: Allowance) -> tuple[Found, Any]:
    """The first state and iterations from it."""
    method, buffer = method_of(task.settings), TeacherBuffer(task.dataset.folder / "none", {})
    watch = Stopwatch(task.device)
    state = run_to_end(method.init_state(task, buffer))
    first = watch.lap()
    seconds, whole = _seconds(task, _iterations(method, task, buffer, state), enough, allowance)
    stored = sum(tensor.nbytes for tensor in state.tensors().values())
    return {"first_seconds": first, "seconds": seconds, "whole": whole, "state_bytes": stored}, state


def _iterations(method: Method, task: Task, buffer: TeacherBuffer, state: Any) -> Generator[Event, None, None]:
    """The method's own iterations, one after the other; none where it chooses its images at once."""
    if task.settings.traits.iterates:
        step = method.make_step(task, buffer, None)
        while True:
            yield from step(state)


def _seconds(
    task: Task, stage: Generator[Event, None, None], enough: float, allowance: Allowance
) -> tuple[float, bool]:
    """Seconds of an iteration, and whether a whole one was seen; of one that takes too long only a share is."""
    taken: list[float] = []
    spent, watch = 0.0, Stopwatch(task.device)
    for event in stage:
        spent += watch.lap()
        if isinstance(event, IterationSkipped):
            raise TeslaError(f"The measured iteration failed: {event.reason}.", "Lower distill.lr_images.")
        if isinstance(event, IterationDone):
            taken.append(spent)
            spent = 0.0
            if sum(taken) > enough and (len(taken) > 1 or taken[0] > enough / 2):
                break
        elif isinstance(event, Progress) and (share := event.done % 1) > 0 and allowance.left < 0 and not taken:
            stage.close()
            return spent / share, False
        if taken and allowance.left < 0:
            break
    stage.close()
    return min(taken, default=0.0), True

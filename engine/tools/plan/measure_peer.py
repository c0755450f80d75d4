"""A short run of a method without teachers: of its own first state and iterations, in its own process."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from engine.errors import TeslaError
from engine.events import Event, IterationDone, IterationSkipped, Progress
from engine.methods.method import Method
from engine.methods.registry import method_of
from engine.runtime.generators import run_to_end
from engine.settings import Settings
from engine.tools.plan.measure import MOST, disk_speed
from engine.tools.plan.problem import Found
from engine.tools.plan.synthetic import Meter, Shape, changed, random_task, synchronise
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer


def iteration(settings: str, shape: Shape, ipc: int, train: int, folder: str, enough: float) -> Found:
    """Seconds to make the first state and of an iteration, and the memory both take.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        ipc: images per class that are made here.
        train: real images there are here.
        folder: for files.
        enough: seconds to spend, about.
    """
    # A rate of next to nothing: noise means nothing, and images must not run away with it.
    wanted = changed(Settings.model_validate_json(settings), "distill", ipc=ipc, iterations=10**6, lr_images=1e-9)
    task = random_task(wanted, shape, Path(folder), train=train, measured=1)
    method = method_of(wanted)
    buffer = TeacherBuffer(Path(folder) / "none", {})
    meter = Meter(task.device)
    begun = time.perf_counter()
    state = run_to_end(method.init_state(task, buffer))
    synchronise(task.device)
    first = time.perf_counter() - begun
    seconds, whole = _seconds(task, _iterations(method, task, buffer, state), enough)
    return {
        **meter.read(),
        "first_seconds": first,
        "seconds": seconds,
        "whole": whole,
        "images": len(state.images),
        "state_bytes": sum(tensor.nbytes for tensor in state.tensors().values()),
        "train_bytes": train * task.dataset.channels * task.dataset.resolution**2,
        "parameters": sum(parameter.numel() for parameter in task.fresh_network(0).parameters()),
        "compiling": 0.0,
        **disk_speed(state, Path(folder)),
    }


def _iterations(method: Method, task: Task, buffer: TeacherBuffer, state: Any) -> Generator[Event, None, None]:
    """The method's own iterations, one after the other; none where it chooses its images at once."""
    if task.settings.traits.iterates:
        step = method.make_step(task, buffer, None)
        while True:
            yield from step(state)


def _seconds(task: Task, stage: Generator[Event, None, None], enough: float) -> tuple[float, bool]:
    """Seconds of an iteration, and whether a whole one was seen; of a long one only a share is."""
    taken: list[float] = []
    begun = time.perf_counter()
    for event in stage:
        synchronise(task.device)
        now = time.perf_counter()
        if isinstance(event, IterationSkipped):
            raise TeslaError(f"The measured iteration failed: {event.reason}.", "Lower distill.lr_images.")
        if isinstance(event, IterationDone):
            taken.append(now - begun)
            begun = now
            if sum(taken) > enough and (len(taken) > 1 or taken[0] > 2 * enough):
                break
        elif isinstance(event, Progress) and not taken and now - begun > MOST * enough and event.done > 0:
            stage.close()
            return (now - begun) / event.done, False
    stage.close()
    return min(taken, default=0.0), True

"""Out of memory in a stage: what was tried, what there was, and the setting that would fit.

Sizes that follow from settings are computed here; what a whole run takes `tesla plan` measures.
"""

from collections.abc import Generator
from typing import TypeVar

import torch

from engine.errors import OutOfMemoryError
from engine.events import Event, StageFinished, StageStarted
from engine.exhaustion import asked_bytes, available_bytes, is_exhausted, process_bytes, size_words
from engine.matching.steps import saved_bytes, student_loss
from engine.matching.stores import resolve_store
from engine.networks import flatten_parameters
from engine.sharing import batch_sizes, couples_images
from engine.task import Task

TRAINING = 1.5
"""Peak of an eager training step, besides parameters, in graphs of its forward pass (measured for the networks here,
live tensors: 0.9 to 1.35)."""
MATCHING = 3.0
"""Peak of a matching step's second derivatives, likewise (measured: 1.3 to 2.8)."""
WORTH = 0.05
"""Share of the process's memory that a setting must save to be named."""

Result = TypeVar("Result")


def with_words(events: Generator[Event, None, Result], task: Task | None) -> Generator[Event, None, Result]:
    """The events of stages; where memory runs out, words for a person.

    Args:
        events: of a session.
        task: the problem; None while the data are being opened.

    Raises:
        OutOfMemoryError: instead of whatever Python, NumPy or PyTorch raise. Errors of other kinds go through.
    """
    stages = ["data"]
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            except Exception as error:
                if not is_exhausted(error):
                    raise
                failure = explained(error, stages[-1], task)
                break
            if isinstance(event, StageStarted):
                stages.append(event.stage)
            elif isinstance(event, StageFinished) and len(stages) > 1:
                stages.pop()
            yield event
    finally:
        events.close()
    raise failure  # outside of the handler: the first error keeps what filled the memory alive


def explained(error: Exception, stage: str, task: Task | None) -> OutOfMemoryError:
    """The error of a stage in words."""
    asked = asked_bytes(error)
    tried = "more memory was asked for" if asked is None else f"{size_words(asked)} more were asked for"
    where = f"this process has {size_words(process_bytes())}, and {size_words(available_bytes())} are free"
    if task is not None and task.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(task.device)
        where = f"{task.device} has {size_words(total)}, of which {size_words(free)} are free"
    try:
        hint = _hint(stage, task)
    except Exception as second:
        if not is_exhausted(second):
            raise
        hint = "Not even a single image fits: a smaller --ipc or network.width (a new run, --run NAME), or more memory."
    return OutOfMemoryError(
        f"Out of memory in the stage {stage}: {tried}; {where}. What was saved before is intact.", hint
    )


def _hint(stage: str, task: Task | None) -> str:
    if task is None:
        return "Lower dataset.resolution, set dataset.zca = false, or take a machine with more memory."
    ways = _ways(stage, task)
    if task.device.type == "cpu" and task.settings.compute.memory != "flat":
        ways.append("--set compute.memory=flat (nothing is kept for later: a lower peak, slower)")
    return f"The same command goes on with {' or '.join(ways)}. `tesla plan` measures what a run takes."


def _ways(stage: str, task: Task) -> list[str]:
    settings = task.settings
    if stage == "teachers":
        batch = fitting(task, TRAINING)
        return [f"--run NAME --set teachers.batch={min(batch, max(1, settings.teachers.batch // 2))} (a new run)"]
    if stage == "evaluation":
        return ["fewer evaluate.networks, or --run NAME and a smaller network.width"]
    if settings.distill.gradient == "unrolled":
        return ["--run NAME --set distill.gradient=exact (a new run; the same gradient, one step's graph at a time)"]
    ways = []
    batch, rows = max(batch_sizes(task)), fitting(task, MATCHING)
    if settings.compute.micro_batch != "auto":
        now = batch if settings.compute.micro_batch == "off" else min(batch, settings.compute.micro_batch)
        if now > 1 and task.ranks.size == 1 and not couples_images(task.flat_network(), task):
            ways.append(f"--set compute.micro_batch={min(rows, now // 2)} (the same gradient, in parts)")
    if not ways and couples_images(task.flat_network(), task):
        ways.append(
            f"--run NAME --set distill.batch={min(rows, max(1, batch // 2))} (a new run; the batch statistics of "
            f"{task.network_name} need whole batches, so they cannot go in parts)"
        )
    if settings.distill.gradient == "exact":
        network = task.flat_network()
        vector, steps = network.size * task.dtype.itemsize, settings.distill.steps
        now = resolve_store(settings.distill.store, steps, vector, 0, task.device.type)[1] * vector
        then = resolve_store("checkpoint", steps, vector, 0, task.device.type)[1] * vector
        if now - then > WORTH * process_bytes():
            saved = f"{size_words(then)} of parameters instead of {size_words(now)}"
            ways.append(f"--set distill.store=checkpoint ({saved}, slower)")
    if not ways:
        count = task.classes * settings.distill.ipc
        channels, height, width = task.image_shape
        held = 3 * count * channels * height * width * task.dtype.itemsize
        words = f"a new run; {count} images with momentum and gradient take {size_words(held)}"
        ways.append(f"--run NAME and a smaller --ipc or network.width ({words})")
    return ways


def fitting(task: Task, graphs: float) -> int:
    """Images whose graph fits what is free now, from one that is measured on two.

    Args:
        task: its network and image size.
        graphs: peak of a step in units of its first-order graph.
    """
    network = task.flat_network()
    theta = flatten_parameters(task.fresh_network(0)).requires_grad_()
    images = torch.zeros((2, *task.image_shape), device=task.device, dtype=task.dtype)
    labels = torch.full((2, task.classes), 1 / task.classes, device=task.device, dtype=task.dtype)
    with torch.enable_grad():
        _, size = saved_bytes(lambda: student_loss(network, theta, images, labels))
    each = max(1, (size - network.size * task.dtype.itemsize) // 2)
    free = torch.cuda.mem_get_info(task.device)[0] if task.device.type == "cuda" else available_bytes()
    return max(1, int(free / (graphs * each)))

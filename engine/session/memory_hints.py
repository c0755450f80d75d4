"""Out of memory in a stage: what was asked for, what was free, and the setting that would fit.

Sizes that follow from settings are computed here; `tesla plan` measures a whole run.
"""

import gc
from collections.abc import Generator
from typing import TypeVar

import torch

from engine.errors import OutOfMemoryError
from engine.events import Event, StageFinished, StageStarted
from engine.matching.parameter_store import resolve_store
from engine.matching.steps import saved_bytes, student_loss
from engine.methods.batch_coupling import batch_sizes, couples_images
from engine.networks import flatten_parameters
from engine.runtime.memory_limits import tightest_bound
from engine.runtime.out_of_memory import asked_bytes, free_bytes, is_out_of_memory, process_bytes
from engine.storage.filesystem import format_bytes
from engine.training.task import Task

TRAINING = 1.5
"""Peak of an eager training step, besides parameters, in graphs of its forward pass (measured for the networks here,
live tensors: 0.9 to 1.35)."""
MATCHING = 3.0
"""Peak of a matching step's second derivatives, in the same unit (measured: 1.3 to 2.8)."""
WORTH = 0.05
"""Share of the process's memory that a setting must save to be named."""

SMALLER = {
    "teachers": "a smaller teachers.batch or network.width",
    "distillation": "a smaller --ipc or network.width",
    "evaluation": "a smaller network.width or dataset.resolution",
}
"""What takes less memory in a stage, where there is not even the memory to measure how much less."""

Result = TypeVar("Result")


def explain_out_of_memory(events: Generator[Event, None, Result], task: Task | None) -> Generator[Event, None, Result]:
    """The events of stages; where memory runs out, an error with advice.

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
                if not is_out_of_memory(error):
                    raise
                tried = _tried(error, task)
                break
            if isinstance(event, StageStarted):
                stages.append(event.stage)
            elif isinstance(event, StageFinished) and len(stages) > 1:
                stages.pop()
            yield event
    finally:
        events.close()
    # Outside of the handler: the error keeps alive what filled the memory, and hints are computed from what is free.
    raise explained(stages[-1], tried, task)


def _tried(error: Exception, task: Task | None) -> str:
    """What was asked for and what was free when it failed."""
    asked = asked_bytes(error)
    words = "more memory was asked for" if asked is None else f"{format_bytes(asked)} more were asked for"
    if task is not None and task.device.type == "cuda":
        free, total = free_bytes(task.device), torch.cuda.mem_get_info(task.device)[1]
        return f"{words}; {task.device} has {format_bytes(total)}, of which {format_bytes(free)} were free"
    bound = tightest_bound()
    said = f"{words}; this process had {format_bytes(process_bytes())}, and {format_bytes(bound.left)} were free"
    return f"{said}. {bound.words.rstrip('.')}" if bound.words else said


def explained(stage: str, tried: str, task: Task | None) -> OutOfMemoryError:
    """The error of a stage, to raise after its memory is freed."""
    gc.collect()
    if task is not None and task.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        hint = _hint(stage, task)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        smaller = SMALLER.get(stage, SMALLER["distillation"])
        hint = f"Start a new run (--run NAME) with {smaller}, or use a machine with more memory."
    return OutOfMemoryError(f"Out of memory in the stage {stage}: {tried}. What was saved before is intact.", hint)


def _hint(stage: str, task: Task | None) -> str:
    if task is None:
        return "Lower dataset.resolution, set dataset.zca = false, or use a machine with more memory."
    onward, new = _onward(stage, task), _anew(stage, task)
    ways = [f"Resume with the same command and {' or '.join(onward)}"] if onward else []
    if new:
        ways.append(f"{'or start' if ways else 'Start'} a new run (--run NAME) with {new}")
    return f"{', '.join(ways)}. `tesla plan` measures what a run takes."


def _onward(stage: str, task: Task) -> list[str]:
    """Options with which the same run resumes: they change no result but for rounding."""
    settings = task.settings
    ways = []
    if stage == "distillation" and settings.distill.gradient != "unrolled":
        batch, wanted = max(batch_sizes(task)), settings.compute.micro_batch
        now = min(batch, wanted) if isinstance(wanted, int) else batch
        if wanted != "auto" and now > 1 and task.ranks.size == 1 and not _coupled(task):
            rows = min(fitting(task, MATCHING), now // 2)
            ways.append(f"--set compute.micro_batch={rows} (the same gradient, in parts)")
    if stage == "distillation" and settings.distill.gradient == "exact":
        vector, steps = task.flat_network().size * task.dtype.itemsize, settings.distill.steps
        kept, fewest = (
            resolve_store(store, steps, vector, 0, task.device.type)[1] * vector
            for store in (settings.distill.store, "checkpoint")
        )
        if kept - fewest > WORTH * process_bytes():
            saved = f"{format_bytes(fewest)} of parameters instead of {format_bytes(kept)}"
            ways.append(f"--set distill.store=checkpoint ({saved}, slower)")
    if task.device.type == "cpu" and settings.compute.memory != "flat":
        ways.append("--set compute.memory=flat (nothing is kept for later: a lower peak, slower)")
    return ways


def _anew(stage: str, task: Task) -> str:
    """Settings that change the experiment."""
    settings = task.settings
    if stage == "teachers":
        return f"teachers.batch={min(fitting(task, TRAINING), max(1, task.teacher_batch // 2))}"
    if stage == "evaluation":
        return "a smaller network.width or dataset.resolution"
    if settings.distill.gradient == "unrolled":
        return "distill.gradient=exact: the same gradient, with one step's graph at a time"
    if _coupled(task):
        rows = min(fitting(task, MATCHING), max(1, max(batch_sizes(task)) // 2))
        return f"distill.batch={rows} (the batch statistics of {task.network_name} need whole batches, not parts)"
    if settings.compute.micro_batch != "auto":
        return ""
    count = task.classes * settings.distill.ipc
    channels, height, width = task.image_shape
    held = 3 * count * channels * height * width * task.dtype.itemsize
    return f"a smaller --ipc or network.width ({count} images with momentum and gradient take {format_bytes(held)})"


def _coupled(task: Task) -> bool:
    return couples_images(task.flat_network(), task)


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
    return max(1, int(free_bytes(task.device) / (graphs * each)))

"""What an iteration of trajectory matching draws: a function of the settings and the iteration's number alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.augment import draw_augment
from engine.data.decoder import View, Whole
from engine.matching import Schedule
from engine.runtime.rng import counted_generator
from engine.runtime.transfer import to_device
from engine.settings import DistillSettings
from engine.training.task import Task


@dataclass(frozen=True)
class Draw:
    """The random choices of one iteration."""

    trajectory: int
    start_epoch: int
    schedule: Schedule
    """This rank's part of every batch."""
    shares: tuple[float, ...]
    """The share of every batch that this is."""


def start_epochs(distill: DistillSettings, iteration: int) -> range:
    """The teacher epochs that this iteration's student can start from.

    With a curriculum (DATM, Guo et al., ICLR 2024) the upper end grows linearly with the iteration, rounded to the
    nearest epoch, from `current_max_start_epoch` to `max_start_epoch` at iteration `expansion_end`.
    """
    most, first, end = distill.max_start_epoch, distill.first_max_start_epoch, distill.expansion_end
    if first < most and end is not None:
        most = first + (2 * (most - first) * min(iteration, end) + end) // (2 * end)
    return range(distill.min_start_epoch, most)


def draw_iteration(task: Task, iteration: int) -> Draw:
    """Trajectory, start epoch, and T batches with their augmentations, from settings and the iteration's number alone.

    Batches: a random permutation of all N images (with `distill.formation`, of all their views) is cut into chunks of
    `distill.batch`; when it is used up a new one is drawn. Every rank draws the whole and keeps its rows, so that
    nothing depends on how many there are.
    """
    settings = task.settings
    distill = settings.distill
    generator = counted_generator(settings.seed, "draw", iteration)
    trajectory = int(torch.randint(settings.teachers.count, (), generator=generator))
    starts = start_epochs(distill, iteration)
    start_epoch = starts[int(torch.randint(len(starts), (), generator=generator))]
    count, size, views = task.classes * distill.ipc, task.matching_batch, task.decoder.views
    chunks: list[Tensor] = []
    schedule, shares = [], []
    for step in range(distill.steps):
        if not chunks:
            chunks = list(torch.randperm(count * views, generator=generator).split(size))
        index = chunks.pop(0)
        shape = (len(index), *task.image_shape)
        augment = draw_augment(
            counted_generator(settings.seed, "augment", iteration, step), settings.augment.ops, shape, task.device
        )
        part = task.ranks.part(len(index))
        shares.append((part.stop - part.start) / len(index))
        mine: Callable[[Tensor], Tensor] = augment.rows(part)
        index = index[part]
        if not isinstance(task.decoder, Whole):
            mine = View(task.decoder, to_device(index % views, task.device), mine)
            index = torch.div(index, views, rounding_mode="floor")
        schedule.append((to_device(index, task.device), mine))
    return Draw(trajectory, start_epoch, schedule, tuple(shares))

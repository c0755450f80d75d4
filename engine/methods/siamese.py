"""Batches of real images beside the synthetic ones of the same class, under the same augmentation."""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.data.augment import Augment, draw_augment
from engine.runtime.rng import counted_generator
from engine.training.task import Task

Augmentation = Callable[[Tensor], Tensor]


def real_of_class(task: Task, k: int, purpose: str, *counters: int) -> Tensor:
    """`peers.batch_real` training images of class `k` without repetition (all, if there are fewer), `(B, C, H, W)`."""
    members = task.class_members[k]
    generator = counted_generator(task.settings.seed, f"{purpose}-real", *counters, k)
    order = torch.randperm(len(members), generator=generator)[: task.settings.peers.batch_real]
    return task.train.images.encoded(members[order])


def siamese(task: Task, purpose: str, *counters: int) -> Augmentation:
    """One drawn augmentation with the same parameters for every image of any batch (Zhao & Bilen, ICML 2021)."""
    generator = counted_generator(task.settings.seed, f"{purpose}-augment", *counters)
    drawn = draw_augment(generator, task.settings.augment.ops, (1, *task.image_shape), task.device)

    def augment(images: Tensor) -> Tensor:
        shared = tuple(values.expand(len(images), *values.shape[1:]) for values in drawn.parameters)
        return Augment(drawn.op, shared)(images)

    return augment


def plain(images: Tensor) -> Tensor:
    """No augmentation."""
    return images

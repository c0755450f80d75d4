"""Bytes of a graph, counted with a few images."""

import torch
from torch import Tensor, nn

from engine.matching.steps import saved_bytes, soft_cross_entropy
from engine.training.task import Task

MOST = 16
"""Images that a graph is counted with, at most."""


def graph_bytes(task: Task, images: Tensor, batch: int, model: nn.Module) -> int:
    """What a first-order graph of a batch keeps alive, from an eighth of the batch, or 16 of its images.

    Args:
        task: the task.
        images: some of the batch, `(n, C, H, W)`.
        batch: how many images it has.
        model: the network.
    """
    part = max(1, min(MOST, batch // 8, len(images)))
    labels = torch.zeros((part, task.classes), dtype=task.dtype, device=task.device)
    with torch.enable_grad():
        _, size = saved_bytes(lambda: soft_cross_entropy(model(images[:part]), labels))
    return int(size * batch // part)

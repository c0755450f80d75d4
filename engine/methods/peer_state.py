"""What the peers carry between iterations: named tensors, replaced together once an iteration is whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.training.labels import class_index, hard_labels
from engine.training.task import Task


@dataclass
class PeerState:
    """A synthetic set with everything else its method carries."""

    carried: dict[str, Tensor]
    """`images` `(N, C, H, W)`, `student_lr` (a scalar, never changed) and the method's own; integers on the host."""
    iteration: int = 0
    """Iterations complete."""
    skipped: int = 0
    """Skips in a row."""
    labels: Tensor | None = None
    """Soft labels `(N, K)` for pictures; None while labels are hard."""

    @property
    def images(self) -> Tensor:
        """`(N, C, H, W)` in the input space, ordered by class."""
        return self.carried["images"]

    @property
    def student_lr(self) -> Tensor:
        """`distill.student_lr`."""
        return self.carried["student_lr"]

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint file."""
        return dict(self.carried)

    def counters(self) -> dict[str, int]:
        """For a checkpoint's record."""
        return {"iteration": self.iteration, "skipped": self.skipped}

    def count(self, counters: Mapping[str, Any]) -> None:
        """Take the values from `counters` of another state."""
        self.iteration, self.skipped = counters["iteration"], counters["skipped"]

    @property
    def good(self) -> int:
        """These methods never roll back: every network is freshly drawn."""
        return 0


def fresh_state(task: Task, images: Tensor, **more: Tensor) -> PeerState:
    """The state before iteration 1 for first images `(N, C, H, W)` and everything else that is carried."""
    student_lr = torch.tensor(task.settings.distill.student_lr, dtype=task.dtype, device=task.device)
    return PeerState({"images": images, "student_lr": student_lr, **more})


def restore_state(tensors: dict[str, Tensor], counters: dict[str, Any], task: Task) -> PeerState:
    """The state in a checkpoint."""
    carried = {
        name: tensor.to(task.device, task.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    return PeerState(carried, iteration=counters["iteration"], skipped=counters["skipped"])


def hard(task: Task) -> Tensor:
    """One-hot labels `(N, K)` of the synthetic images, whatever they look like."""
    index = class_index(task.classes, task.settings.distill.ipc, task.device)
    return hard_labels(index, task.classes, task.dtype)

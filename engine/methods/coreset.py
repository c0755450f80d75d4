"""What the selections have in common: real images of every class, chosen once, with hard labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.methods.method import Method, immediate, no_step
from engine.methods.peer_state import PeerState, fresh_state, hard, restore_state
from engine.training.real_images import packed_images, real_images
from engine.training.task import Task


def selection(name: str, choose: Callable[[Task], Tensor], reads: tuple[str, ...] = ("distill.student_lr",)) -> Method:
    """A method that keeps real images.

    Args:
        name: as `distill.method` spells it.
        choose: gives indices `(K * ipc * views,)` into the training images, ordered by class.
        reads: settings it reads.
    """

    def initial_state(task: Task) -> PeerState:
        return fresh_state(task, packed_images(task, choose(task)))

    return Method(
        name=name,
        init_state=immediate(initial_state),
        restore_state=restore_state,
        make_step=no_step,
        export_labels=immediate(hard),
        reads=reads,
    )


def by_class(task: Task, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Choose in every class by the images themselves.

    Args:
        task: the task.
        choose: `(points (M, D), ipc)` gives `(ipc,)` of the M rows; points are images in the input space, flattened.
    """
    found = []
    for members in task.class_members:
        points = real_images(task, members).flatten(1)
        found.append(members[choose(points, task.settings.distill.ipc).cpu()])
    return torch.cat(found)

"""The state before iteration 1, where it depends on a teacher: the first images and labels of DATM.

Guo et al. (ICLR 2024) start with random real images that a teacher classifies correctly, and with that teacher's
logits on them for learned labels: labels that contradict their class are hard to learn from. The teacher
here is the first trajectory's, at the last epoch that this run reads, so nothing is trained for it.
"""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from engine.data.decoder import decode_all
from engine.events import Event, Notice, Progress
from engine.methods.tesla_state import DistillState, initial_state
from engine.networks.flat import FlatNetwork
from engine.runtime.generators import map_events
from engine.training import labels as label_rules
from engine.training.real_images import initial_images, packed_images, random_orders, real_images
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

LEAST = 16
"""Images of a class that are shown to the teacher at once, at least."""

NAMED = 8
"""Classes that a notice names."""


@dataclass(frozen=True)
class _Teacher:
    """The teacher."""

    network: FlatNetwork
    theta: Tensor
    at: Progress

    def asked(self, images: Tensor) -> Generator[Event, None, Tensor]:
        """Logits `(N, K)` on images of the input space."""
        asking = label_rules.labelling(self.network, self.theta, images, logits=True)
        return (yield from map_events(asking, lambda _: self.at))


def init_state(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, DistillState]:
    """As `initial_state`, with `distill.init = correct` and `labels.init = teacher`. Use as `yield from`.

    A function of the settings and the buffer. Images: in the order in which `distill.init = real` takes them, those
    that the teacher classifies correctly; where a class has too few, the ones it comes nearest to getting right, and a
    notice. Labels: the teacher's logits (or probabilities, as `labels.parameters` says); for an image that it takes
    for another class one-hot, and a notice.

    Raises:
        DamagedTrajectoryError, DivergedError: that teacher cannot be used.
    """
    settings = task.settings
    asks_images = settings.distill.init == "correct"
    asks_labels = settings.labels.kind == "learned" and settings.labels.init == "teacher"
    if not (asks_images or asks_labels):
        return initial_state(task)
    total = settings.distill.iterations
    at = Progress(stage="distillation", done=0, total=total, unit="iterations", detail="classifying with a teacher")
    theta = buffer.read(0, settings.trained_epochs)[0].to(task.device, task.dtype)
    teacher = _Teacher(task.flat_network(), theta, at)
    images = packed_images(task, (yield from _correct(task, teacher))) if asks_images else initial_images(task)
    logits = (yield from _labels(task, teacher, images)) if asks_labels else None
    return initial_state(task, images, logits)


def _correct(task: Task, teacher: _Teacher) -> Generator[Event, None, Tensor]:
    """Indices `(K * ipc * views,)` into the training images, ordered by class."""
    ipc = task.settings.distill.ipc * task.decoder.views
    orders = [order.tolist() for order in random_orders(task, "init-real")]
    right: list[list[int]] = [[] for _ in orders]
    wrong: list[list[tuple[float, int]]] = [[] for _ in orders]
    begin, size = 0, max(ipc, LEAST)
    while lacking := [k for k, order in enumerate(orders) if len(right[k]) < ipc and begin < len(order)]:
        # Classes take turns: a network with batch statistics must not see one class at a time.
        turns = zip_longest(*([(k, image) for image in orders[k][begin : begin + size]] for k in lacking))
        shown = [pair for turn in turns for pair in turn if pair is not None]
        begin, size = begin + size, 2 * size
        for first in range(0, len(shown), label_rules.CHUNK):
            part = shown[first : first + label_rules.CHUNK]
            own = torch.tensor([k for k, _ in part], device=task.device)[:, None]
            logits = yield from teacher.asked(real_images(task, torch.tensor([image for _, image in part])))
            best_other = logits.scatter(1, own, -torch.inf).amax(dim=1)
            margins = (logits.gather(1, own)[:, 0] - best_other).tolist()
            for (k, image), margin in zip(part, margins, strict=True):
                if margin > 0:
                    right[k].append(image)
                else:
                    wrong[k].append((margin, image))
    few = {k: len(found) for k, found in enumerate(right) if len(found) < ipc}
    if few:
        names = ", ".join(f"{task.dataset.classes[k]!r} {count}" for k, count in list(few.items())[:NAMED])
        more = f" and {len(few) - NAMED} more classes" if len(few) > NAMED else ""
        yield Notice(
            level="warning",
            message=f"distill.init = correct: the teacher classifies fewer than {ipc} images of a class "
            f"correctly ({names}{more}); the rest are those that it comes nearest to getting right.",
        )
    for k, count in few.items():
        right[k] += [image for _, image in sorted(wrong[k], key=lambda pair: -pair[0])[: ipc - count]]
    return torch.tensor([image for found in right for image in found[:ipc]])


def _labels(task: Task, teacher: _Teacher, images: Tensor) -> Generator[Event, None, Tensor]:
    """Logits (or raw probabilities) `(N, K)` that learned labels start from: with formation the mean over views."""
    index = label_rules.class_index(task.classes, task.settings.distill.ipc, task.device)
    logits = (yield from teacher.asked(decode_all(task.decoder, images))).to(task.dtype)
    logits = logits.unflatten(0, (len(index), -1)).mean(dim=1) if task.decoder.views > 1 else logits
    others = (logits.argmax(dim=1) != index) | ~logits.isfinite().all(dim=1)
    count = int(others.sum())
    if count:
        yield Notice(
            level="warning",
            message=f"labels.init = teacher: the teacher misclassifies {count} of {len(images)} first images; "
            "their labels start one-hot. distill.init = correct starts from images that it classifies correctly.",
        )
    raw = label_rules.are_raw(task.settings)
    answers = logits.softmax(dim=1) if raw else logits
    fixed = (label_rules.hard_labels if raw else label_rules.initial_logits)(index, task.classes, task.dtype)
    return torch.where(others[:, None], fixed, answers)

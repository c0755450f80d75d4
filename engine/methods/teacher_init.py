"""The state before iteration 1, where it depends on teachers: the first images and labels of DATM.

Guo et al. (ICLR 2024) start with random real images that a teacher classifies correctly, and with teachers' logits on
them for learned labels: labels that contradict their class are hard to learn from. One teacher is the first
trajectory's, at the last epoch that is trained. With `labels.init = teachers`, as in DATM's code, labels are the mean
over all trajectories, whole ones, and images come from the next trajectories too where the first knows too few.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from engine.data.decoder import decode_all
from engine.events import Event, Notice, Progress
from engine.methods.tesla_state import DistillState, initial_state
from engine.networks.flat import FlatNetwork
from engine.runtime.generators import map_events
from engine.settings import Settings
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
    """One of the teachers."""

    network: FlatNetwork
    theta: Tensor
    at: Progress

    def asked(self, images: Tensor) -> Generator[Event, None, Tensor]:
        """Logits `(N, K)` on images of the input space."""
        asking = label_rules.labelling(self.network, self.theta, images, logits=True)
        return (yield from map_events(asking, lambda _: self.at))


def init_state(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, DistillState]:
    """As `initial_state`, with `distill.init = correct` and `labels.init` other than one-hot. Use as `yield from`.

    A function of the settings and the buffer. Images: in the order in which `distill.init = real` takes them, those
    that the teacher classifies correctly; where a class has too few, the ones it comes nearest to getting right, and a
    notice. Labels: the teacher's logits, or the mean of all teachers' that classify the image correctly (or
    probabilities, as `labels.parameters` says); for an image that none does one-hot, and a notice.

    Raises:
        DamagedTrajectoryError, DivergedError: a teacher cannot be used.
    """
    settings = task.settings
    asks_images = settings.distill.init == "correct"
    asks_labels = settings.labels.kind == "learned" and settings.labels.init != "one-hot"
    if not (asks_images or asks_labels):
        return initial_state(task)
    images = packed_images(task, (yield from _correct(task, buffer))) if asks_images else initial_images(task)
    logits = (yield from _labels(task, buffer, images)) if asks_labels else None
    return initial_state(task, images, logits)


def _teachers(task: Task, buffer: TeacherBuffer, what: str) -> Iterator[_Teacher]:
    """The teachers to ask, each read when its turn comes."""
    settings, network = task.settings, task.flat_network()
    count = settings.teachers.count if settings.labels_of_teachers else 1
    for trajectory in range(count):
        at = Progress(
            stage="distillation", done=0, total=settings.distill.iterations, unit="iterations",
            detail=f"{what} with teacher {trajectory + 1} of {count}" if count > 1 else f"{what} with a teacher",
        )  # fmt: skip
        theta = buffer.read(trajectory, settings.trained_epochs)[0].to(task.device, task.dtype)
        yield _Teacher(network, theta, at)


@dataclass
class _Known:
    """What the teachers asked so far say about the training images of one class."""

    order: list[int]
    """Its images, in the order in which they are taken."""
    right: list[int]
    """Those that a teacher classified correctly."""
    wrong: dict[int, float]
    """The others with the margin to the best other class, of the teacher that came nearest."""


def _correct(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, Tensor]:
    """Indices `(K * ipc * views,)` into the training images, ordered by class."""
    ipc = task.settings.distill.ipc * task.decoder.views
    known = [_Known(order.tolist(), [], {}) for order in random_orders(task, "init-real")]
    for teacher in _teachers(task, buffer, "classifying"):
        yield from _find_right(task, teacher, known, ipc)
        if all(len(one.right) >= ipc for one in known):
            break
    few = {k: len(one.right) for k, one in enumerate(known) if len(one.right) < ipc}
    if few:
        names = ", ".join(f"{task.dataset.classes[k]!r} {count}" for k, count in list(few.items())[:NAMED])
        more = f" and {len(few) - NAMED} more classes" if len(few) > NAMED else ""
        yield Notice(
            level="warning",
            message=f"distill.init = correct: {_who(task.settings)[0]} fewer than {ipc} images of a class "
            f"correctly ({names}{more}); the rest are those that come nearest to being classified so.",
        )
    for k, count in few.items():
        nearest = sorted(known[k].wrong, key=lambda image: -known[k].wrong[image])
        known[k].right += nearest[: ipc - count]
    return torch.tensor([image for one in known for image in one.right[:ipc]])


def _find_right(task: Task, teacher: _Teacher, known: list[_Known], ipc: int) -> Generator[Event, None, None]:
    """Ask one teacher about the images that none got right, until every class has `ipc` or no image is left."""
    found = [set(one.right) for one in known]
    left = [[image for image in one.order if image not in found[k]] for k, one in enumerate(known)]
    begin, size = 0, max(ipc, LEAST)
    while lacking := [k for k, one in enumerate(known) if len(one.right) < ipc and begin < len(left[k])]:
        # Classes take turns: a network with batch statistics must not see one class at a time.
        turns = zip_longest(*([(k, image) for image in left[k][begin : begin + size]] for k in lacking))
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
                    known[k].right.append(image)
                    known[k].wrong.pop(image, None)
                else:
                    known[k].wrong[image] = max(margin, known[k].wrong.get(image, -math.inf))


def _labels(task: Task, buffer: TeacherBuffer, images: Tensor) -> Generator[Event, None, Tensor]:
    """Logits (or raw probabilities) `(N, K)` that learned labels start from: with formation the mean over views."""
    settings = task.settings
    index = label_rules.class_index(task.classes, settings.distill.ipc, task.device)
    total = torch.zeros((len(images), task.classes), dtype=task.dtype, device=task.device)
    counts = torch.zeros((len(images), 1), dtype=task.dtype, device=task.device)
    for teacher in _teachers(task, buffer, "classifying"):  # added up: a table for each would fill the memory
        logits = (yield from teacher.asked(decode_all(task.decoder, images))).to(task.dtype)
        logits = logits.unflatten(0, (len(index), -1)).mean(dim=1) if task.decoder.views > 1 else logits
        right = ((logits.argmax(dim=1) == index) & logits.isfinite().all(dim=1))[:, None]
        total += logits.where(right, 0.0)
        counts += right
    nobody = counts == 0
    wrong = int(nobody.sum())
    if wrong:
        yield Notice(
            level="warning",
            message=f"labels.init = {settings.labels.init}: {_who(settings)[1]} {wrong} of {len(images)} first images; "
            "their labels start one-hot. distill.init = correct starts from images that are classified correctly.",
        )
    raw = label_rules.are_raw(settings)
    mean = total / counts.clamp(min=1)
    answers = mean.softmax(dim=1) if raw else mean
    fixed = (label_rules.hard_labels if raw else label_rules.initial_logits)(index, task.classes, task.dtype)
    return torch.where(nobody, fixed, answers)


def _who(settings: Settings) -> tuple[str, str]:
    """Who classifies too few images of a class correctly, and who misclassifies some."""
    if settings.labels_of_teachers:
        return "all teachers together classify", "every teacher misclassifies"
    return "the teacher classifies", "the teacher misclassifies"

"""How long a run takes on one core of a server, from counts alone: what `tesla run --quick` is sized by.

Counts give the same answer on every machine and at every call; `tesla plan` measures instead.
"""

import math
from dataclasses import dataclass

from engine.settings.datasets import dataset_facts
from engine.settings.layers import EffectiveSettings
from engine.settings.sized import Counted
from engine.settings.tables import Flat

PASS = 20e-9
"""CPU seconds of a training pass, forward and back, by pixel of an image and channel of a narrow ConvNet. This and what
follows fits the CPU seconds of quick runs in docs/tutorial.md within a third."""
WIDE = 256
"""Width at which the products of channels cost as much again."""
STEP = 0.002
"""Seconds of a training step besides its images."""
MATCHING = 3.5
"""Passes that an image of an exact matching step costs: forward, back, and a Hessian-vector product."""
MATCHING_STEP = 0.005
"""Seconds of a matching step besides its images."""
FORWARD = 0.3
"""Of a pass, to measure an accuracy."""
START = 5.0
"""Seconds before and after the stages."""
RATES = 4
"""Learning rates that are tried for random real images."""
WIDTH = 128
"""Of a ConvNet whose width is not set."""


@dataclass(frozen=True)
class Size:
    """Of a dataset."""

    train: int
    """Training images, the held-out part included."""
    test: int
    classes: int
    side: int
    """Of the square images as they come, pixels."""


@dataclass(frozen=True)
class Seconds:
    """Of the stages of a run, on one core."""

    teachers: float
    distillation: float
    evaluation: float

    @property
    def total(self) -> float:
        """The whole run, but for the first decoding of its images."""
        return START + self.teachers + self.distillation + self.evaluation


DIGITS = Size(1_438, 359, 10, 8)


def counted_images(effective: EffectiveSettings) -> Counted | None:
    """What `tesla init` counted, where the preset follows it."""
    return next(filter(None, map(Counted.from_origin, effective.origins.values())), None)


def dataset_size(effective: EffectiveSettings) -> Size | None:
    """The size of the dataset; None where it is not known before the images are read."""
    dataset = effective.settings.dataset
    counted, facts = counted_images(effective), dataset_facts(dataset.name)
    side = dataset.resolution or 32
    if counted is not None:
        return Size(counted.images, counted.images // 4, counted.classes, counted.side or side)
    if dataset.name == "digits":
        return DIGITS
    if facts is None or not facts.train:
        return None
    return Size(facts.train, facts.test, facts.classes, facts.resolution or side)


def estimated(values: Flat, size: Size) -> Seconds:
    """Seconds of each stage of a run that matches the trajectories of a ConvNet.

    Args:
        values: its settings, flat.
        size: of its dataset.
    """
    pixels = (values["dataset.resolution"] or size.side) ** 2
    width = values["network.width"] or WIDTH
    each = PASS * pixels * width * (1 + width / WIDE)
    seen, held = (1 - values["dataset.holdout"]) * size.train, values["dataset.holdout"] * size.train
    images = size.classes * values["distill.ipc"]

    steps = math.ceil(seen / values["teachers.batch"])
    epochs = values["distill.max_start_epoch"] - 1 + values["distill.teacher_epochs"]
    trained = 0 if values["teachers.buffer"] is not None else values["teachers.count"] * epochs
    gradients = 2 if values["teachers.kind"] == "ftd" else 1

    batch = images if values["distill.batch"] == "full" else min(values["distill.batch"], images)
    matched = values["distill.iterations"] * values["distill.steps"]

    rounds = values["distill.iterations"] // values["evaluate.every"] + 1
    random = (RATES if values["evaluate.random_lr"] == "tuned" else 1) if values["evaluate.baseline"] else 0
    selecting = values["evaluate.selection_repeats"] * (rounds + random)
    tested = values["evaluate.repeats"] * (2 if values["evaluate.baseline"] else 1)
    an_epoch = images * each + math.ceil(images / values["evaluate.batch"]) * STEP
    return Seconds(
        teachers=trained * gradients * (seen * each + steps * STEP),
        distillation=matched * (MATCHING * batch * each + MATCHING_STEP),
        evaluation=(selecting + tested) * values["evaluate.epochs"] * an_epoch
        + (selecting * held + tested * size.test) * FORWARD * each,
    )

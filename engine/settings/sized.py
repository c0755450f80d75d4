"""The preset of a dataset without published rates: a function of how many images and classes it has.

The fixed preset `folder` is for tens of thousands of images. On 258 photographs its batches of 256 make one step an
epoch, so its teachers learn next to nothing, and there is nothing to match. What has to stay the same, however many
images there are, is the number of SGD steps: of an epoch, of a trajectory, and between a start and its target.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine.errors import SettingsError
from engine.settings.tables import Flat

TRAINED = 0.9
"""Share of the training images that teachers see: all but the default of dataset.holdout."""
STEPS_AN_EPOCH = 20
"""Wanted at least, in batches of SMALLEST or more."""
SMALLEST, LARGEST = 4, 256
"""Batches, images."""
STEPS = 360
"""SGD steps that a start epoch can be away from the beginning, for up to 10 classes; more for more classes."""
MOST_STARTS = 60
"""Start epochs at most: each is a snapshot of every teacher on the disk."""
APART = 30
"""SGD steps between a start and its target, at least."""
FEW = 5_000
"""Training images below which 20 teachers are affordable on a laptop; above, 10."""
MANY = 50_000
"""Training images from which the ConvNet is 64 wide; below, 32."""
MOST_BATCH = 1_000
"""Synthetic images up to which a matching step takes all of them."""


@dataclass(frozen=True)
class Counted:
    """What `tesla init` counted: the table `counted` of tesla.toml."""

    images: int
    """Training images, the held-out part included."""
    classes: int

    @property
    def origin(self) -> str:
        """The name of the preset's layer."""
        return f"preset for {self.images} images of {self.classes} classes"

    @classmethod
    def from_origin(cls, origin: str) -> Self | None:
        """The counts in the name of a layer; None for another layer."""
        found = re.fullmatch(r"preset for (\d+) images of (\d+) classes", origin)
        return None if found is None else cls(int(found[1]), int(found[2]))

    @classmethod
    def from_table(cls, table: Any, path: Path) -> Self | None:
        """The counts in a settings file; None where it has none.

        Raises:
            SettingsError: not a table of two counts.
        """
        if table is None:
            return None
        least = {"images": 1, "classes": 1}
        if (
            not isinstance(table, Mapping)
            or table.keys() != least.keys()
            or any(type(value) is not int or not 1 <= value <= 10**9 for value in table.values())
        ):
            raise SettingsError(
                f"`counted` in {path} must have the keys images and classes, both whole numbers above 0.",
                "Correct them, or remove the table: the fixed preset is then used.",
            )
        return cls(table["images"], table["classes"])


def sized_preset(counted: Counted, ipc: Any) -> Flat:
    """What the preset sets beyond the fixed one of `folder`, flat.

    Args:
        counted: the size of the dataset.
        ipc: images per class, as the settings have it.
    """
    seen = max(1, round(TRAINED * counted.images))
    batch = min(LARGEST, max(SMALLEST, 2 ** int(math.log2(max(1, seen / STEPS_AN_EPOCH)))))
    steps = math.ceil(seen / batch)  # of an epoch
    apart = max(2, math.ceil(APART / steps))
    starts = min(MOST_STARTS, max(4, round(STEPS * math.sqrt(max(1, counted.classes / 10)) / steps)))
    preset: Flat = {
        "network.width": 32 if counted.images < MANY else 64,
        "teachers.batch": batch,
        "teachers.count": 20 if counted.images < FEW else 10,
        "teachers.epochs": 2 * starts + apart,
        "distill.teacher_epochs": apart,
        "distill.max_start_epoch": starts,
        "distill.iterations": 500,
        "evaluate.every": 100,
    }
    if isinstance(ipc, int) and counted.classes * ipc > MOST_BATCH:
        preset["distill.batch"] = MOST_BATCH // 4
    return preset

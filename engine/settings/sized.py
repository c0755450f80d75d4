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
LATER = {1: 1, 10: 2, 50: 3}
"""By IPC, how many times STEPS starts may be away from the beginning: more images can follow a teacher further."""
FORMED = {1: 2, 50: 1}
"""By IPC, views on a side of every synthetic image, where it can hold four."""
LEAST_VIEW = 8
"""Side of a view, pixels. Four views of 4x4 in digits of 8x8 are much worse than one image."""


ORIGIN = r"preset for (\d+) images of (\d+) classes(?:, (\d+) or more each)?(?:, (\d+)x\d+)?"
"""The name of a preset's layer."""


@dataclass(frozen=True)
class Counted:
    """What `tesla init` counted: the table `counted` of tesla.toml."""

    images: int
    """Training images, the held-out part included."""
    classes: int
    smallest: int | None = None
    """Training images of the smallest class; None, as `side`, where an older version counted."""
    side: int | None = None
    """Of the square images, pixels."""

    @property
    def origin(self) -> str:
        """The name of the preset's layer."""
        words = [f"preset for {self.images} images of {self.classes} classes"]
        words += [] if self.smallest is None else [f"{self.smallest} or more each"]
        words += [] if self.side is None else [f"{self.side}x{self.side}"]
        return ", ".join(words)

    @classmethod
    def from_origin(cls, origin: str) -> Self | None:
        """The counts in the name of a layer; None for another layer."""
        found = re.fullmatch(ORIGIN, origin)
        if found is None:
            return None
        images, classes, smallest, side = (None if number is None else int(number) for number in found.groups())
        return None if images is None or classes is None else cls(images, classes, smallest, side)

    @classmethod
    def from_table(cls, table: Any, path: Path) -> Self | None:
        """The counts in a settings file; None where it has none.

        Raises:
            SettingsError: not a table of counts.
        """
        if table is None:
            return None
        if (
            not isinstance(table, Mapping)
            or not {"images", "classes"} <= table.keys() <= {"images", "classes", "smallest", "side"}
            or any(type(value) is not int or not 1 <= value <= 10**9 for value in table.values())
        ):
            raise SettingsError(
                f"`counted` in {path} must have the keys images and classes, and may have smallest and side, all "
                "whole numbers above 0.",
                "Correct them, or remove the table: the fixed preset is then used.",
            )
        return cls(**table)


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
    reach = STEPS * _row(LATER, ipc) * math.sqrt(max(1, counted.classes / 10))
    starts = min(MOST_STARTS, max(4, round(reach / steps)))
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
    if can_hold(2, counted, ipc):
        preset["distill.formation"] = _row(FORMED, ipc)
    if isinstance(ipc, int) and counted.classes * ipc > MOST_BATCH:
        preset["distill.batch"] = MOST_BATCH // 4
    return preset


def can_hold(factor: int, counted: Counted, ipc: Any, holdout: float = 1 - TRAINED) -> bool:
    """Whether factor x factor views are large enough, and the smallest class has the images that fill the first ones.

    Args:
        factor: views on a side.
        counted: the size of the dataset.
        ipc: images per class, as the settings have it.
        holdout: share of the training images that teachers do not see.
    """
    if counted.side is None or counted.smallest is None or not isinstance(ipc, int):
        return False
    kept = counted.smallest - math.ceil(holdout * counted.smallest)
    return counted.side % factor == 0 and counted.side >= factor * LEAST_VIEW and kept >= factor**2 * ipc


def _row(rows: Mapping[int, int], ipc: Any) -> int:
    """The value of the greatest IPC up to this one."""
    known = [row for row in rows if isinstance(ipc, int) and row <= ipc]
    return rows[max(known, default=1)]

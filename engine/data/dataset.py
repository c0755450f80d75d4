"""A decoded dataset, and how its training images are divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.data.report import DataReport
from engine.errors import UsageError
from engine.runtime.rng import counted_generator

TEST_SHARE = 0.2
"""Share held out as a test set if a source has none."""

Pixels = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as uint8 `(N, C, H, W)`, memory-mapped, and their class numbers `(N,)`."""

    name: str
    source: str
    """Where the images come from, for people."""
    classes: tuple[str, ...]
    channels: int
    resolution: int
    """Side, pixels."""
    fingerprint: str
    """sha256 over the contents: the same pixels and labels give the same fingerprint, wherever they are stored."""
    train_images: Pixels
    train_labels: Classes
    test_images: Pixels
    test_labels: Classes
    folder: Path
    """The cache entry."""
    report: DataReport | None = None
    """What was chosen, and what was left out; None in entries of version 0.1.0."""


def split_test(labels: Classes, names: Sequence[str]) -> tuple[Classes, Classes]:
    """Divide the images of a dataset that has no test set into (training, test), sorted indices.

    Args:
        labels: class numbers `(N,)`.
        names: of the classes.

    Raises:
        UsageError: a class has a single image, which cannot be on both sides.
    """
    _check_sizes(
        labels, names,
        "and no test set: it needs one to train on and one to test on",
        "Add a second image of that class, leave the class out with dataset.classes, or give the dataset a test set "
        "(folders `train` and `test`).",
    )  # fmt: skip
    return _divided(labels, TEST_SHARE, 0)


def split_holdout(labels: Classes, fraction: float, seed: int, names: Sequence[str] = ()) -> tuple[Classes, Classes]:
    """Divide training images by class into (kept, held out), sorted indices.

    Args:
        labels: class numbers `(N,)`.
        fraction: share to hold out, 0 for none; else at least one image of every class.
        seed: of the draw.
        names: of the classes.

    Raises:
        UsageError: a class has a single image, which cannot be on both sides.
    """
    if fraction > 0:
        _check_sizes(
            labels, names,
            f"left to train on, and dataset.holdout = {fraction:g} keeps one to select the checkpoint on",
            "Add images of that class, leave the class out with dataset.classes, or set dataset.holdout = 0 (the last "
            "checkpoint is then the result).",
        )  # fmt: skip
    return _divided(labels, fraction, seed)


def _check_sizes(labels: Classes, names: Sequence[str], need: str, hint: str) -> None:
    numbers, sizes = np.unique(labels, return_counts=True)
    single = numbers[sizes < 2]
    if len(single):
        shown = [repr(names[k]) if k < len(names) else f"number {k}" for k in map(int, single[:3])]
        listed = ", ".join(shown) + (f" and {len(single) - 3} more" if len(single) > 3 else "")
        which = f"The class {listed} has" if len(single) == 1 else f"The classes {listed} have"
        raise UsageError(f"{which} only 1 image{'' if len(single) == 1 else ' each'} {need}.", hint)


def _divided(labels: Classes, fraction: float, seed: int) -> tuple[Classes, Classes]:
    """(kept, held out) by class; every class that has images has at least two."""
    held: list[Classes] = []
    for k in np.unique(labels) if fraction > 0 else ():
        members = np.flatnonzero(labels == k)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        order = torch.randperm(len(members), generator=counted_generator(seed, "holdout", int(k))).numpy()
        held.append(members[order[:count]])
    out = np.sort(np.concatenate(held)) if held else np.empty(0, dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(labels)), out, assume_unique=True)
    return kept, out

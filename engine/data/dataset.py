"""A decoded dataset, and how its training images are divided."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.data.report import DataReport
from engine.errors import UsageError
from engine.runtime.rng import counted_generator

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


def split_holdout(labels: Classes, fraction: float, seed: int) -> tuple[Classes, Classes]:
    """Divide training images by class into (kept, held out), sorted indices.

    Args:
        labels: class numbers `(N,)`.
        fraction: share to hold out, 0 for none; else at least one image of every class.
        seed: of the draw.

    Raises:
        UsageError: a class has a single image, which cannot be on both sides.
    """
    held: list[Classes] = []
    for k in np.unique(labels) if fraction > 0 else ():
        members = np.flatnonzero(labels == k)
        if len(members) < 2:
            raise UsageError(
                f"Class number {k} has a single training image, so none can be held out to select a checkpoint.",
                "Add images, or set dataset.holdout = 0.",
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        order = torch.randperm(len(members), generator=counted_generator(seed, "holdout", int(k))).numpy()
        held.append(members[order[:count]])
    out = np.sort(np.concatenate(held)) if held else np.empty(0, dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(labels)), out, assume_unique=True)
    return kept, out

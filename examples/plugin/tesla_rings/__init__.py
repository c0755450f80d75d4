"""A method and a dataset for `tesla`, in a separate package.

pip install ./examples/plugin
tesla init circles --dataset rings
tesla trust tesla_rings:find_rings
tesla run circles --set distill.method=typical
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from engine.data.sources import OpenSource, Source, SourceSplit
from engine.methods.coreset import by_class, selection

SIDE = 12
CLASSES = ("small ring", "large ring", "small disc", "large disc")


def nearest_to_mean(points: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of the rows of `points` `(M, D)` that are nearest to their mean."""
    return (points - points.mean(dim=0)).square().sum(dim=1).topk(count, largest=False).indices


TYPICAL = selection("typical", lambda task: by_class(task, nearest_to_mean))


def draw_rings(count: int, seed: int) -> SourceSplit:
    """`count` noisy grey images of every class."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images, labels = [], []
    for label in range(len(CLASSES)):
        radius = 2.5 if label % 2 == 0 else 4.5
        for _ in range(count):
            centre = (SIDE - 1) / 2 + noise.uniform(-1, 1, size=2)
            distance = np.hypot(y - centre[0], x - centre[1])
            shape = abs(distance - radius) < 1 if label < 2 else distance < radius
            images.append(np.clip(200 * shape + noise.normal(20, 10, (SIDE, SIDE)), 0, 255).astype(np.uint8))
            labels.append(label)
    return SourceSplit(np.array(labels, dtype=np.int64), lambda i: images[i])


def find_rings(name: str, path: Path | None, on_bad_file: str) -> Source:
    """The dataset. Its key changes when its images do."""
    return Source(
        name,
        "rings and discs, drawn",
        "rings-1",
        lambda: OpenSource(CLASSES, 1, SIDE, draw_rings(60, 0), draw_rings(30, 1)),
    )

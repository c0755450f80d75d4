"""One image of each class, as the networks will see it."""

import numpy as np
from rich.console import Console

from engine.data.decoding.pictures import to_square
from engine.data.resolve import ResolvedData
from engine.errors import DataError
from tesla_tui.render.grid import ImageGrid, Pixels

MOST = 20
"""Classes that are shown."""
TRIES = 3
"""Images of a class that are tried before it is shown without one."""


def print_first_images(console: Console, data: ResolvedData) -> None:
    """Print the first training image of each class, and the names of the classes."""
    images, captions = [], []
    labels = data.train.split.labels[data.train.index]
    for k, name in enumerate(data.classes[:MOST]):
        image = _first(data, data.train.index[labels == k][:TRIES])
        if image is not None:
            images.append(image)
            captions.append(name)
    console.print()
    if len(data.classes) > MOST:
        console.print(f"[dim]The first {MOST} of {len(data.classes):,} classes:[/]", highlight=False)
    if images:
        console.print(ImageGrid(np.stack(images), captions))


def _first(data: ResolvedData, candidates: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Pixels | None:
    for i in candidates:
        try:
            square = to_square(
                data.train.split.image(int(i)), data.channels, data.resolution, data.request.fit, data.value_range
            )
        except (DataError, ValueError, OSError):  # decoding will say which, and stop or skip it
            continue
        return np.moveaxis(square, 0, 2)
    return None

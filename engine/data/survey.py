"""Looking at the images before any is decoded: modes, sizes, and what follows for channels and resolution."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.data.pictures import GREY_MODES
from engine.data.report import Choice
from engine.data.sources import Header, SourceSplit
from engine.errors import DataError

MOST_LOOKED = 100_000
"""Images whose header is read, of all splits; of more, an even share."""
DEFAULT_RESOLUTION = 32
"""Side where sizes differ and none is set, pixels."""


@dataclass(frozen=True)
class Survey:
    """What the headers of the images say."""

    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    looked: int
    total: int

    @property
    def all(self) -> bool:
        """Whether every header was read."""
        return self.looked == self.total

    @property
    def words(self) -> str:
        """How many images were looked at, for people."""
        return f"all {self.total:,} images" if self.all else f"{self.looked:,} of {self.total:,} images"

    def channels(self) -> Choice:
        """1 if every mode is grey, else 3."""
        grey = {mode: count for mode, count in self.modes.items() if mode in GREY_MODES}
        if len(grey) == len(self.modes):
            return Choice("1", f"{self.words} are grey")
        if grey:
            return Choice("3", f"{sum(grey.values()):,} of {self.looked:,} images are grey, the others are in colour")
        return Choice("3", f"{self.words} are in colour")

    def resolution(self) -> Choice:
        """The side that all images have, else the default."""
        if len(self.sizes) == 1:
            ((width, height),) = self.sizes
            if width == height:
                return Choice(str(width), f"{self.words} have this size")
        return Choice(str(DEFAULT_RESOLUTION), "the default, as sizes differ; to choose, set dataset.resolution")


def survey(splits: Iterable[SourceSplit]) -> Survey:
    """Read the headers of the images, all or an even share of them.

    Images that are no pictures are the decoder's to refuse or to leave out.
    """
    parts = list(splits)
    total = sum(len(part.labels) for part in parts)
    every = max(1, -(-total // MOST_LOOKED))
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    for part in parts:
        for i in range(0, len(part.labels), every):
            with suppress(DataError):
                mode, size = _header(part, i)
                modes[mode] += 1
                sizes[size] += 1
    return Survey(modes, sizes, sum(modes.values()), total)


def _header(part: SourceSplit, i: int) -> Header:
    if part.header is not None:
        return part.header(i)
    image = part.image(i)
    if isinstance(image, Image.Image):
        return image.mode, image.size
    array = np.asarray(image)
    return ("L" if array.ndim == 2 else "RGB"), (array.shape[1], array.shape[0])

"""The embedded dataset: handwritten digits of UCI, 8x8, in this package."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from engine.data.idx import DIGIT_CLASSES, idx_split, read_idx
from engine.data.report import Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source
from engine.errors import UsageError


def find(request: DataRequest) -> Source:
    """The source; it is always available.

    Raises:
        UsageError: there is a path.
    """
    if request.path is not None:
        raise UsageError(
            "dataset.path has no effect on digits, which are in the package.",
            "Remove it, or set dataset.name = folder to read what is there.",
        )
    return Source(request.name, "digits (UCI, 8x8), embedded", "digits-1", _open)


def _open() -> OpenSource:
    assets = files("engine.data").joinpath("assets")
    raw = read_idx(Path(str(assets.joinpath("digits-images-idx3-ubyte.gz"))))
    labels = read_idx(Path(str(assets.joinpath("digits-labels-idx1-ubyte.gz"))))
    images = np.round(raw.astype(np.float64) * (255 / 16)).astype(np.uint8)
    train = SplitFacts("all", "train", len(labels), "images", "the dataset has no splits")
    listing = Listing((train,), class_order="by their number")
    return OpenSource(DIGIT_CLASSES, 1, 8, idx_split(images, labels), None, listing)

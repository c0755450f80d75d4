"""Synthetic images of a checkpoint as pixels, without opening the rest of a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.generators import result_of
from engine.preview import to_pixels
from engine.run import Run
from engine.workspace import Workspace


@dataclass(frozen=True)
class Gallery:
    """Pictures and the names of their classes."""

    pixels: npt.NDArray[np.uint8]
    """`(N, H, W, C)`, ordered by class."""
    classes: tuple[str, ...]


def decoded_images(workspace: Workspace, run: Run, iteration: int) -> Gallery:
    """The images of a checkpoint, un-whitened.

    Raises:
        CorruptFileError: the checkpoint is missing or damaged.
        TeslaError: the dataset is gone, so its input space is unknown.
    """
    tensors, _ = run.load_checkpoint(iteration)
    settings = run.frozen().settings
    opened = result_of(workspace.open_dataset(settings))
    return Gallery(to_pixels(tensors["images"].float(), opened.space), opened.dataset.classes)

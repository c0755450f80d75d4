"""Synthetic images of a checkpoint as pixels, without opening the rest of a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.data import Dataset, InputSpace, fit_space, prepare_dataset, split_holdout
from engine.preview import to_pixels
from engine.run import Run
from engine.settings import Settings
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
    dataset, space = dataset_and_space(workspace, settings)
    images = tensors["images"]
    return Gallery(to_pixels(images.float(), space), dataset.classes)


def dataset_and_space(workspace: Workspace, settings: Settings) -> tuple[Dataset, InputSpace]:
    """The dataset from the cache (decoded again if need be) and the input space of its teachers."""
    opening = prepare_dataset(
        settings.dataset.name,
        path=workspace.dataset_path(settings),
        resolution=settings.dataset.resolution,
        on_bad_file=settings.dataset.on_bad_file,
    )
    while True:
        try:
            next(opening)
        except StopIteration as end:
            dataset: Dataset = end.value
            break
    kept, _ = split_holdout(dataset.train_labels, settings.dataset.holdout, settings.seed)
    return dataset, fit_space(dataset, kept, settings.dataset.zca)

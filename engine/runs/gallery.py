"""Synthetic images of a checkpoint as pixels, without opening the rest of a task."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.data.decoder import decode_all, decoder_of
from engine.errors import CorruptFileError
from engine.runs.journal import data_of
from engine.runs.preview_writer import to_pixels
from engine.runs.run import Run
from engine.runs.same_data import check_classes
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end


@dataclass(frozen=True)
class Gallery:
    """Pictures and the names of their classes."""

    pixels: npt.NDArray[np.uint8]
    """`(N, H, W, C)`, ordered by class."""
    classes: tuple[str, ...]
    per_class: int
    """Pictures of each class."""


def decoded_images(workspace: Workspace, run: Run, iteration: int, *, views: bool = False) -> Gallery:
    """The images of a checkpoint, un-whitened: as they are stored, or all `views` of them that networks see.

    Raises:
        CorruptFileError: the checkpoint is missing or damaged.
        UsageError: the dataset has other classes now, so that the images would have wrong names.
        TeslaError: the dataset is missing, so its input space is unknown.
    """
    tensors, _ = run.load_checkpoint(iteration)
    settings = run.frozen().settings
    opened = run_to_end(workspace.open_dataset(settings))
    images, dataset = tensors.get("images"), opened.dataset
    # The dataset may number its classes otherwise by now.
    was = data_of(run.journal_file)
    names = tuple(was.names) if was is not None and was.names else dataset.classes
    if sorted(names) != sorted(dataset.classes):
        check_classes(run, dataset.classes)
    wanted = (len(names) * settings.distill.ipc, dataset.channels, dataset.resolution, dataset.resolution)
    if images is None or tuple(images.shape) != wanted:
        raise CorruptFileError(
            f"{run.checkpoint_path(iteration)} has no images of shape {wanted}, as dataset and settings require.",
            "Was it copied from another run? Choose another checkpoint with --iteration.",
        )
    decoder = decoder_of(settings.distill, wanted[1:])
    shown = decode_all(decoder, images.float()) if views else decoder.picture(images.float())
    return Gallery(to_pixels(shown, opened.space), names, len(shown) // len(names))

"""How many images and classes a dataset on this machine has, before anything is decoded."""

import os
from pathlib import Path

import numpy as np

from engine.data.dataset import TEST_SHARE
from engine.data.folder import TEST_NAMES
from engine.data.sources import Source
from engine.errors import TeslaError
from engine.settings.sized import Counted


def counted(source: Source, path: Path | None) -> Counted | None:
    """Training images and classes; None where they are known only after a download, or the files cannot be read.

    Args:
        source: the located dataset.
        path: `dataset.path`, resolved.
    """
    if not source.local:
        return None
    if source.name == "folder" and path is not None:
        return _in_folder(path)
    try:
        opened = source.open()
    except TeslaError:  # reported by the command that needs the images
        return None
    return _of(len(np.asarray(opened.train.labels)), len(opened.classes), tested=opened.test is not None)


def _of(images: int, classes: int, *, tested: bool) -> Counted:
    return Counted(max(1, images if tested else round((1 - TEST_SHARE) * images)), max(1, classes))


def _in_folder(root: Path) -> Counted:
    """Files of a class-per-folder tree. Counted, not opened: that takes minutes for some ten thousand of them."""
    train = root / "train" if (root / "train").is_dir() else root
    tested = train != root and any((root / name).is_dir() for name in TEST_NAMES)
    classes = [entry for entry in os.scandir(train) if entry.is_dir() and not entry.name.startswith(".")]
    images = sum(
        entry.is_file() and not entry.name.startswith(".") for folder in classes for entry in os.scandir(folder.path)
    )
    return _of(images, len(classes), tested=tested)

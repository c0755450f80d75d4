"""Small trees of pictures, written as lists of paths."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data import DataRequest, find_source
from engine.data.report import Listing
from engine.data.resolve import ResolvedData, resolve
from engine.data.sources import OpenSource


def picture(path: Path, value: int = 0, format: str = "") -> None:  # noqa: A002 - Pillow's word
    """A grey picture of 8x8 pixels of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(path, format=format or None)


def make(root: Path, *folders: str, count: int = 5, ending: str = "png") -> Path:
    """Folders with pictures 0, 1, ... in each; a folder's number is the tens of its pictures' values."""
    for number, folder in enumerate(folders):
        for i in range(count):
            picture(root / folder / f"{i}.{ending}", 10 * number + i)
    return root


def opened(root: Path, name: str = "folder", **settings: Any) -> OpenSource:
    """The open source at a path."""
    return find_source(DataRequest(name, path=root, **settings)).open()


def resolved(root: Path, name: str = "folder", **settings: Any) -> ResolvedData:
    """What would be decoded."""
    request = DataRequest(name, path=root, **settings)
    return resolve(find_source(request), request)


def sizes(source: OpenSource) -> tuple[dict[str, int], dict[str, int] | None]:
    """Pictures by class, of train and test."""
    parts = [
        None if part is None else {name: int((part.labels == k).sum()) for k, name in enumerate(source.classes)}
        for part in (source.train, source.test)
    ]
    assert parts[0] is not None
    return parts[0], parts[1]


def told(listing: Listing) -> dict[str, str]:
    """What is left out: its words, and the setting that takes it."""
    return {left.what: left.setting for left in listing.left_out}


def roles(listing: Listing) -> dict[str, str]:
    """Role of each split."""
    return {split.name: split.role for split in listing.splits}


def values(source: OpenSource) -> list[int]:
    """The value of each training picture."""
    return [int(np.asarray(source.train.image(i))[0, 0]) for i in range(len(source.train.labels))]

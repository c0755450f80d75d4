"""The files of a published distilled set, by kind: `.pt`, `.npy`, `.npz`, `.safetensors`, and folders that hold them.

Pictures (in class folders or Parquet) need the dataset's size first: `set_pictures` reads those.
"""

import re
import zipfile
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import CorruptFileError, DataError, UnreadableFileError, UsageError
from engine.events import Event
from engine.storage.reading import exists, is_file, is_folder, open_to_read, told_reads
from engine.storage.tensors import read_file
from engine.storage.untrusted import number, parse_json, read_bounded, whole_number
from engine.tools.exchange.numpy_pickle import as_plain
from engine.tools.exchange.set_tree import Tree, tree_of
from engine.tools.exchange.torch_reader import SourceFile, examine, file_size, is_archive, load

MOST_RECIPE = 2**26
EXPORTS = ("distilled.safetensors", "images_best.pt")
"""Names of the images in exports of this program; the second is also that of MTT, TESLA and DATM."""
FKD_FILE = re.compile(r"batch_\d+\.tar")


@dataclass
class SetFiles:
    """What was given, read as far as it can be without the dataset."""

    path: Path
    """Of the images: a file, or the folder of pictures."""
    pictures: bool
    """Whether `path` holds pictures, which are not read yet."""
    tree: Tree = field(default_factory=Tree)
    labels_path: Path | None = None
    labels: Tree | None = None
    """Of a labels file of their own."""
    lr_path: Path | None = None
    """A file with the step size, beside the images."""
    sources: list[SourceFile] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """What each file is, by its name."""
    recipe: "Recipe | None" = None


@dataclass(frozen=True)
class Recipe:
    """What `recipe.json` of an export of this program says of the file beside it."""

    classes: tuple[str, ...]
    space: str | None
    """`normalised` or `whitened`."""
    student_lr: float | None
    formation: int = 1
    """f: each stored image holds f x f smaller ones."""


def read_files(images: Path, labels: Path | None) -> Generator[Event, None, SetFiles]:
    """Find and read the files of a set. Use as `yield from`.

    Raises:
        UsageError: no such file, or a folder without anything of the kind.
        DataError: damaged, hostile, or a kind that cannot be imported.
    """
    found = _located(images, labels)
    paths = [] if found.pictures else [found.path]
    if found.labels_path is not None:
        paths.append(found.labels_path)
    for path in paths:
        _refuse_relabelling(path)
        _refuse_archive(path)
    total, done = sum(map(file_size, paths)), 0
    for path in paths:
        source = yield from examine(path, done, total, strict=path.suffix != ".npz")
        done += source.bytes
        found.sources.append(source)
        value, found.kinds[path.name] = _value(source)
        tree = tree_of(value, str(path))
        if path == found.labels_path:
            found.labels = tree
        else:
            found.tree = tree
    if found.path.name in EXPORTS:
        found.recipe = _recipe(found.path.parent)
    return found


def read_number(path: Path) -> Generator[Event, None, float]:
    """The single number in a file. Use as `yield from`.

    Raises:
        UsageError, DataError: no such file, damaged, hostile, or more than a number.
    """
    source = yield from examine(path, 0, file_size(path))
    tensors = list(tree_of(_value(source)[0], str(path)).tensors.values())
    count = sum(tensor.numel() for tensor in tensors)
    if count != 1:
        raise DataError(f"{path} holds {count} numbers, not one step size.")
    return float(tensors[0].reshape(()).item())


def _located(images: Path, labels: Path | None) -> SetFiles:
    if not exists(images):
        raise UsageError(f"{images} does not exist.")
    path = images
    if is_folder(path):
        _refuse_relabelling(path)
        path = next((path / name for name in EXPORTS if is_file(path / name)), path)
    if not is_folder(path):
        file_size(path)  # refuses what is no file
    if is_folder(path) or path.suffix == ".parquet":
        return SetFiles(path, True, labels_path=_pictures_labels(labels))
    beside = labels or sibling(path, "labels")
    return SetFiles(path, False, labels_path=beside, lr_path=sibling(path, "lr"))


def _pictures_labels(labels: Path | None) -> Path | None:
    if labels is not None:
        _refuse_relabelling(labels)
    return labels


def sibling(images: Path, what: str) -> Path | None:
    """`labels_best.pt` of `images_best.pt`, if there is one."""
    if "images" not in images.name:
        return None
    path = images.with_name(images.name.replace("images", what, 1))
    return path if is_file(path) else None


def _refuse_relabelling(path: Path) -> None:
    if FKD_FILE.fullmatch(path.name) or (is_folder(path) and any(is_folder(child) for child in path.glob("epoch_*"))):
        raise _relabelling(path)


def _relabelling(path: Path) -> DataError:
    return DataError(
        f"{path} holds FKD labels, as SRe2L saves them: each belongs to one crop and mix of one epoch, which a set "
        "with one label per image cannot keep.",
        "Import the folder of pictures alone, without a labels argument: each picture gets the class of its folder.",
    )


def _refuse_archive(path: Path) -> None:
    """An archive of many files is not a file of tensors, although `torch.save` writes a zip archive too."""
    if path.suffix == ".npz" or not is_file(path) or not is_archive(path):
        return
    try:
        with open_to_read(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # `examine` says what is wrong
    if names and not any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{path} is an archive of {len(names)} files, not a file of torch.save.",
            "Unpack it, and give the folder or the file with the images.",
        )


def _value(source: SourceFile) -> tuple[Any, str]:
    path = source.path
    match path.suffix:
        case ".npy":
            return _arrays(path)["."], "array of numpy"
        case ".npz":
            return _arrays(path), "arrays of numpy"
        case ".safetensors":
            return _safetensors(path), "safetensors"
    value = load(source)
    if isinstance(value, list | tuple) and len(value) == 6 and _is_relabelling(value):
        raise _relabelling(path)
    return value, "file of torch.save"


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_file(path, lambda piece: None)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.", "Download it again.") from error


def _is_relabelling(value: Any) -> bool:
    """`[coordinates (B, 4), flips, mix indices, mix weight, mix box, labels (B, K)]`."""
    first, last = value[0], value[5]
    tensors = isinstance(first, torch.Tensor) and isinstance(last, torch.Tensor)
    return tensors and first.ndim == 2 and first.shape[1] == 4 and last.ndim == 2 and len(first) == len(last)


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with told_reads(path):
            found = np.load(path, allow_pickle=False, mmap_mode="c" if path.suffix == ".npy" else None)
        if isinstance(found, np.ndarray):
            return {".": as_plain(found)}
        return {name: as_plain(found[name]) for name in found.files}
    except (MemoryError, OSError, UnreadableFileError):
        raise
    except Exception as error:  # any exception that a hostile file causes
        first = " ".join(str(error).split())[:160]
        raise DataError(
            f"{path} cannot be read as arrays of numbers ({first}).",
            "No code in it was run. Save plain arrays: numpy.savez(path, images=..., labels=...).",
        ) from error


def _recipe(folder: Path) -> Recipe | None:
    """The recipe of an export; None if there is none that can be read."""
    try:
        value = parse_json(read_bounded(folder / "recipe.json", MOST_RECIPE))
        if not str(value["made_by"]).startswith("tesla-tui "):
            return None
        lr = value["training"]["student_lr"]
        space = {"normalise": "normalised", "zca": "whitened"}.get(str(value["image"]["space"]))
        factor = value.get("formation", 1)  # exports of older versions do not say
        if not whole_number(factor):
            return None
        return Recipe(tuple(map(str, value["dataset"]["classes"])), space, lr if number(lr) else None, factor)
    except (OSError, ValueError, KeyError, TypeError, CorruptFileError):
        return None

"""A class-per-folder tree: `train/<class>/*` with `test/` or `val/`, or just `<class>/*`."""

import os
from pathlib import Path

import numpy as np

from engine.data.pictures import load_picture, open_header
from engine.data.report import LeftOut, Listing
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, SourceSplit, file_key, natural_key
from engine.errors import DataError, UsageError

TEST_NAMES = ("test", "val", "valid", "validation")
Files = dict[str, list[Path]]


def find(request: DataRequest) -> Source:
    """A source over the tree below `request.path`.

    Raises:
        UsageError: there is no path.
        DataError: it is not a folder, or holds no classes, a single class or an empty class.
    """
    root, on_bad_file = request.path, request.on_bad_file
    if root is None:
        raise UsageError("dataset.name = folder needs dataset.path, the class-per-folder tree.")
    if not root.is_dir():
        raise DataError(f"dataset.path = {root} is not a folder.", "It must hold one subfolder per class.")
    train_root = root / "train" if (root / "train").is_dir() else root
    test_root = (
        next((root / name for name in TEST_NAMES if (root / name).is_dir()), None) if train_root != root else None
    )
    train = _class_files(train_root)
    if len(train) < 2:
        what = f"only the class {next(iter(train))!r}" if train else "no subfolders"
        raise DataError(
            f"{train_root} has {what}; a dataset needs at least two classes.",
            "Put the images of each class in its own subfolder.",
        )
    test = _class_files(test_root) if test_root else None
    if test is not None and set(test) != set(train):
        differing = sorted(set(test) ^ set(train), key=natural_key)
        raise DataError(
            f"{train_root} and {test_root} do not have the same classes: {', '.join(map(repr, differing[:5]))} "
            f"{'is' if len(differing) == 1 else 'are'} in only one of them.",
            "Give both the same subfolders.",
        )
    everything = [path for tree in (train, test or {}) for paths in tree.values() for path in paths]
    return Source(
        "folder", f"folder {root}", f"{on_bad_file}-{file_key(everything)}", lambda: _open(train, test, on_bad_file)
    )


def _class_files(root: Path) -> Files:
    found: Files = {}
    try:
        folders = sorted(
            (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
            key=lambda entry: natural_key(entry.name),
        )
        for folder in folders:
            paths = [Path(entry) for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()]
            found[folder.name] = sorted(paths, key=lambda path: natural_key(path.name))
    except PermissionError as error:
        raise DataError(
            f"{error.filename} cannot be read: permission denied.", "Change its mode with chmod, or run as its owner."
        ) from error
    for name, paths in found.items():
        if not paths:
            raise DataError(f"The class {name!r} ({root / name}) has no images.", "Add images, or remove the folder.")
    return found


def _readable(name: str) -> str:
    """A folder's name as text: bytes that are not UTF-8 could not be stored."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _open(train: Files, test: Files | None, on_bad_file: str) -> OpenSource:
    left_out: list[str] = []

    def scanned(tree: Files) -> SourceSplit:
        paths: list[Path] = []
        labels: list[int] = []
        for number, (name, members) in enumerate(tree.items()):
            good = 0
            for path in members:
                try:
                    open_header(path)
                except DataError:
                    if on_bad_file != "skip":
                        raise
                    left_out.append(_readable(str(path)))
                    continue
                paths.append(path)
                labels.append(number)
                good += 1
            if not good:
                raise DataError(f"The class {name!r} has no readable image in {members[0].parent}.", "Add images.")
        return SourceSplit(
            np.array(labels, dtype=np.int64), lambda i: load_picture(paths[i]), lambda i: open_header(paths[i])
        )

    train_split = scanned(train)
    test_split = scanned(test) if test is not None else None
    bad = LeftOut(f"{len(left_out)} bad files", len(left_out), "no readable image", tuple(left_out))
    listing = Listing(left_out=(bad,) if left_out else ())
    return OpenSource(tuple(map(_readable, train)), None, None, train_split, test_split, listing)

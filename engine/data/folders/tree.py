"""All files below a folder, listed once: names of possible pictures, other files, and what cannot be used."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.data.decoding.pictures import load_picture, open_header
from engine.data.folders.filenames import extension, kind_of_file, text_of
from engine.data.report import LeftOut
from engine.data.sources import Header, natural_order
from engine.errors import DataError
from engine.storage.untrusted import read_bounded

MOST_FILES = 20_000_000
"""Files below a folder; ImageNet-21k has 14 million."""
MOST_LEVELS = 40
"""Folders in one another."""
SHOWN = 5
"""Examples that are kept of what is left out."""
LABELS = frozenset(("csv", "tsv", "jsonl", "parquet"))
"""Extensions of files that may hold labels; a change of one is a change of the dataset."""


@dataclass(slots=True)
class Folder:
    """A folder and what is in it."""

    path: str
    """Relative to the tree, with `/`; empty for the tree itself."""
    pictures: list[str] = field(default_factory=list)
    """Names of files that are pictures by their extension, or may be by their contents; in no order."""
    others: list[str] = field(default_factory=list)
    """Names of files that are no pictures."""
    folders: dict[str, "Folder"] = field(default_factory=dict)
    total: int = 0
    """Possible pictures in it and below."""
    digest: bytes = b""
    """Over the names, sizes and times of its possible pictures and files of labels."""

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]

    def join(self, name: str) -> str:
        """The path of something in it."""
        return f"{self.path}/{name}" if self.path else name

    def own(self) -> list[str]:
        """Paths of its own possible pictures, as a person counts."""
        return [self.join(name) for name in natural_order(self.pictures)]

    def below(self) -> list[str]:
        """Paths of the possible pictures in its folders, but not of its own; as a person counts."""
        inner = [self.folders[name] for name in natural_order(list(self.folders))]
        return [path for folder in inner for path in (*folder.own(), *folder.below())]

    def filled(self) -> dict[str, "Folder"]:
        """Its folders with possible pictures in or below them, as a person counts."""
        return {name: self.folders[name] for name in natural_order(list(self.folders)) if self.folders[name].total}

    def walk(self) -> Iterator["Folder"]:
        """It and every folder below."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()


class Reader(Protocol):
    """A way to the files of a tree, by their relative paths. Several threads may use it at once."""

    def header(self, path: str) -> Header:
        """See `engine.data.decoding.pictures.open_header`."""

    def picture(self, path: str) -> Any:
        """See `engine.data.decoding.pictures.load_picture`."""

    def read(self, path: str, most: int) -> bytes:
        """All bytes, of which there must be no more than `most`."""


@dataclass
class Tree:
    """Everything below a folder, or in an archive."""

    place: Path
    root: Folder
    reader: Reader
    aside: dict[str, list[str]] = field(default_factory=dict)
    """Paths that cannot be used, by one of `REASONS`."""

    def shown(self, path: str) -> str:
        """A path for people."""
        return text_of(f"{self.place}/{path}") if path else text_of(str(self.place))

    def key(self) -> str:
        """Changes with the name, size or time of any possible picture."""
        digest = hashlib.sha256(f"{self.place}\n".encode(errors="surrogateescape"))
        for folder in self.root.walk():
            digest.update(f"{folder.path}\0".encode(errors="surrogateescape") + folder.digest)
        return digest.hexdigest()

    def left_out(self) -> list[LeftOut]:
        """What was skipped when the files were listed."""
        return [
            left_out(one, many, self.aside[kind], reason)
            for kind, (one, many, reason) in REASONS.items()
            if self.aside.get(kind)
        ]

    def contents(self) -> str:
        """What there is by extension, for people: `12 .txt files and 1 folder`."""
        counts: Counter[str] = Counter()
        for folder in self.root.walk():
            counts.update(extension(name) for name in (*folder.pictures, *folder.others))
        folders = sum(1 for _ in self.root.walk()) - 1
        parts = [f"{number:,} .{ending}" if ending else f"{number:,} without an extension"
                 for ending, number in counts.most_common(SHOWN)]  # fmt: skip
        more = sum(counts.values()) - sum(number for _, number in counts.most_common(SHOWN))
        files = ", ".join([*parts, *([f"{more:,} others"] if more else [])]) or "none"
        return f"files: {files}; folders: {folders:,}"


REASONS = {
    "system": ("system file", "system files", "made by the operating system"),
    "hidden": ("hidden file or folder", "hidden files and folders", "the name begins with a dot; rename it to use it"),
    "broken": ("broken link", "broken links", "there is nothing where it points to"),
    "loop": ("link in a circle", "links in a circle", "it leads to a folder that it is in"),
    "special": ("pipe or device", "pipes and devices", "not a regular file"),
    "unreadable": ("unreadable folder", "unreadable folders", "permission denied"),
    "replaced": ("entry of the archive", "entries of the archive", "a later entry has the same name"),
    "outside": ("entry of the archive", "entries of the archive", "its path leads out of the archive"),
}
"""Why a path cannot be used: its kind in the singular and the plural, and the reason."""


def left_out(one: str, many: str, paths: list[str], reason: str, setting: str = "") -> LeftOut:
    """Things of one kind that are not used, with the first few as examples."""
    count = len(paths)
    words = f"{count:,} {one if count == 1 else many}"
    return LeftOut(words, count, reason, tuple(text_of(path) for path in sorted(paths)[:SHOWN]), setting)


def list_tree(root: Path, *, skip_unreadable: bool = False) -> Tree:
    """List a folder and everything below. Links are followed, but not in circles.

    Raises:
        DataError: a folder cannot be read, or there are far too many files or levels.
    """
    tree = Tree(root, Folder(""), _Disk(root))
    counted = [0]
    _list(tree, tree.root, (), skip_unreadable, counted)
    return tree


def _list(tree: Tree, folder: Folder, above: tuple[tuple[int, int], ...], skip: bool, counted: list[int]) -> bool:
    """Fill in a folder; False if it is one of those above it, which a link leads back to."""
    place = f"{tree.place}/{folder.path}" if folder.path else str(tree.place)
    lines, inner = [], []
    try:
        status = os.stat(place)  # noqa: PTH116 - names that are no text
        here = (*above, (status.st_dev, status.st_ino))
        if here[-1] in above:
            tree.aside.setdefault("loop", []).append(folder.path)
            return False
        with os.scandir(place) as entries:
            for entry in entries:
                if _is_folder(tree, folder, entry):
                    inner.append(entry.name)
                elif (line := _file(tree, folder, entry)) is not None:
                    lines.append(line)
    except PermissionError as error:
        if skip and folder.path:
            tree.aside.setdefault("unreadable", []).append(folder.path)
            return False
        raise DataError(
            f"{text_of(str(error.filename))} cannot be read: permission denied.",
            "Change its mode with chmod, or run as its owner.",
        ) from error
    folder.digest = digest_of(lines)
    folder.total = len(folder.pictures)
    counted[0] += 1 + folder.total + len(folder.others)
    if counted[0] > MOST_FILES or len(above) > MOST_LEVELS:
        what = f"more than {MOST_FILES:,} files" if counted[0] > MOST_FILES else f"more than {MOST_LEVELS} levels"
        raise DataError(f"{text_of(str(tree.place))} has {what}.", "Set dataset.path to the dataset's own folder.")
    for name in inner:
        child = Folder(folder.join(name))
        if _list(tree, child, here, skip, counted):
            folder.folders[name] = child
            folder.total += child.total
    return True


def digest_of(lines: list[str]) -> bytes:
    """Digest over a folder's files, a line each, in any order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).digest()


def _is_folder(tree: Tree, folder: Folder, entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder to be listed."""
    if not entry.is_dir():
        return False
    kind = kind_of_file(entry.name)
    if kind in ("system", "hidden"):
        tree.aside.setdefault(kind, []).append(folder.join(entry.name))
        return False
    return True


def _file(tree: Tree, folder: Folder, entry: "os.DirEntry[str]") -> str | None:
    """Note a file; its line for the digest if it is a possible picture or may hold labels."""
    name = entry.name
    kind: str = kind_of_file(name)
    if kind not in ("system", "hidden") and not entry.is_file():
        kind = "broken" if entry.is_symlink() else "special"
    if kind not in ("picture", "unknown", "other"):
        if not (kind in ("system", "hidden") and entry.is_dir()):
            tree.aside.setdefault(kind, []).append(folder.join(name))
        return None
    note(folder, name, kind)
    if kind == "other" and not holds_labels(name):
        return None
    status = entry.stat()
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def note(folder: Folder, name: str, kind: str) -> None:
    """Add a file to its folder."""
    (folder.others if kind == "other" else folder.pictures).append(name)


def holds_labels(name: str) -> bool:
    """Whether a file that is no picture may hold labels of pictures."""
    return extension(name) in LABELS or name.endswith("_annotations.txt")


class _Disk:
    """Files on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def header(self, path: str) -> Header:
        return open_header(self._root / path)

    def picture(self, path: str) -> Any:
        return load_picture(self._root / path)

    def read(self, path: str, most: int) -> bytes:
        return read_bounded(self._root / path, most)

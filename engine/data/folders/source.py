"""A tree of pictures, in a folder or a zip archive: classes are folders, or columns of a table beside the pictures."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.decoding.pictures import BAD_FILE
from engine.data.folders.advice import EXPECTED, alike, how_to_label, linked_twice, no_classes, no_pictures, unlabelled
from engine.data.folders.annotations import readable_names
from engine.data.folders.archive import list_zip, unpack_command
from engine.data.folders.filenames import UNREAD, extension, kind_of_file, text_of
from engine.data.folders.labelled_files import read_tree
from engine.data.folders.layout import Found, SplitFiles
from engine.data.folders.tree import Tree, left_out, list_tree
from engine.data.report import BAD_REASON, LeftOut, Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import Header, OpenSource, Source, SourceSplit, natural_key
from engine.data.splits import Roles, assign_roles
from engine.errors import DataError, UsageError

READS = frozenset({"train_split", "test_split", "image_column", "label_column", "recursive"})
ORDER = 3
"""Version of how classes are numbered and pictures chosen: part of the key, so that an older cache is not reused."""
MOST_CHECKED = 100_000
"""Pictures up to which every header is checked before decoding; of more, only files whose names do not tell."""
MOST_BYTES = 2**30
"""Bytes of a picture's file; more than the largest picture that is decoded takes without compression."""


def find(request: DataRequest) -> Source:
    """A source over the pictures below `request.path`, or in that zip archive.

    Raises:
        UsageError: there is no path, or what is there is ambiguous.
        DataError: it holds no pictures, no classes, a single class or an empty class.
    """
    if request.path is None:
        raise UsageError("dataset.name = folder needs dataset.path, the class-per-folder tree.")
    if not request.path.is_dir() and not _is_zip(request.path):
        raise _wrong_file(request.path)
    tree = _tree(request.path, request)
    if not tree.root.total:
        raise no_pictures(tree)
    return _source(tree, request)


def find_pictures(request: DataRequest) -> Source | None:
    """The source of a dataset with a name, if `request.path` holds its pictures; None if it holds something else."""
    if request.path is None or not (request.path.is_dir() or _is_zip(request.path)):
        return None
    tree = _tree(request.path, request)
    tables = any(
        extension(name) == "parquet" and not name.startswith("metadata.")
        for folder in tree.root.walk()
        for name in folder.others
    )
    return _source(tree, request) if tree.root.total and not tables else None


def _tree(path: Path, request: DataRequest) -> Tree:
    return list_tree(path, skip_unreadable=request.on_bad_file == "skip") if path.is_dir() else list_zip(path)


def _is_zip(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def _wrong_file(path: Path) -> DataError:
    command = unpack_command(path) if path.is_file() else ""
    if command:
        return DataError(
            f"dataset.path = {path} is an archive that is not read here; a zip would be.",
            f"Unpack it with `{command} {path.name}`, and set dataset.path to the folder.",
        )
    if kind_of_file(path.name) == "picture":
        return DataError(f"dataset.path = {path} is a single picture, not a folder.", EXPECTED)
    return DataError(f"dataset.path = {path} is not a folder or a zip archive.", EXPECTED)


@dataclass(frozen=True)
class _Members:
    """What a split, or several, come to."""

    paths: list[str]
    labels: list[str | None]


def _source(tree: Tree, request: DataRequest) -> Source:
    found = read_tree(tree, request)
    if not any(split.labelled for split in found.splits.values()):
        raise no_classes(tree, found)
    roles = assign_roles(
        list(found.splits), request.train_split, request.test_split, withheld=lambda name: not _has_labels(found, name)
    )
    for name in (*roles.train, *([roles.test] if roles.test else [])):
        if not found.splits[name].labelled and (len(roles.train) == 1 or name == roles.test):
            raise unlabelled(tree, name, found.splits[name])
    withheld = [name for name, split in found.splits.items() if not split.labelled and "not used" in roles.why[name]]
    if roles.test is None and request.test_split is None and request.train_split is None and withheld:
        raise unlabelled(tree, withheld[0], found.splits[withheld[0]])
    train = _joined([found.splits[name] for name in roles.train])
    test = _joined([found.splits[roles.test]]) if roles.test else None
    classes = _classes(tree, found, train, test, request)
    what = "zip archive" if tree.place.is_file() else "folder"
    name = f"{request.name}, {what} {tree.shown('')}" if request.name != "folder" else f"{what} {tree.shown('')}"
    return Source(
        request.name,
        name,
        f"tree{ORDER}-{request.on_bad_file}-{tree.key()}",
        lambda: _Opening(tree, request, found, roles, classes).open(train, test),
        reads=READS,
    )


def _has_labels(found: Found, name: str) -> bool:
    return found.splits[name].labelled


def _joined(splits: Sequence[SplitFiles]) -> _Members:
    """The pictures of splits; of several, those without a class are left out."""
    if len(splits) == 1:
        return _Members(splits[0].paths, splits[0].labels)
    pairs = [pair for split in splits for pair in zip(split.paths, split.labels, strict=True)]
    pairs = [pair for pair in pairs if pair[1] is not None]
    return _Members([path for path, _ in pairs], [label for _, label in pairs])


def _classes(tree: Tree, found: Found, train: _Members, test: _Members | None, request: DataRequest) -> tuple[str, ...]:
    """The classes by number.

    Raises:
        DataError: there is only one, or train and test have different ones.
    """
    of_train, of_test = ({label for label in part.labels if label is not None} for part in (train, test or train))
    every = of_train | of_test
    if len(of_train) < 2:
        raise DataError(
            f"{tree.shown(found.root.path)} has only the class {text_of(next(iter(of_train)))!r} to train on; a "
            "dataset needs at least two classes.",
            "Numbers below 0 are no classes: write names, or numbers from 0, in that column."
            if found.classes and None in train.labels
            else how_to_label(tree) or "Put the images of each class in its own subfolder.",
        )
    differing = sorted(of_train ^ of_test, key=natural_key)
    if differing and request.classes is None:
        names = ", ".join(repr(text_of(name)) for name in differing[:5])
        more = f" and {len(differing) - 5} more" if differing[5:] else ""
        raise DataError(
            f"train and test of {tree.shown(found.root.path)} do not have the same classes: {names}{more} "
            f"{'is' if len(differing) == 1 else 'are'} in only one of them.{' '.join(['', *alike(differing)])}",
            "Rename the folders, or merge classes with lines `name = new name` in a file for dataset.classes."
            if alike(differing)
            else "Give both the same classes, leave some out with dataset.classes (a file with the classes to use), or "
            "set dataset.test_split.",
        )
    if found.classes:
        return tuple(name for name in found.classes if name in every)
    return tuple(sorted(every))


class _Opening:
    """Looks at the pictures, and says what there is."""

    def __init__(self, tree: Tree, request: DataRequest, found: Found, roles: Roles, classes: tuple[str, ...]) -> None:
        self.tree, self.request, self.found, self.roles, self.classes = tree, request, found, roles, classes
        self.headers: dict[str, Header] = {}
        self.bad: list[str] = []
        self.no_picture: list[str] = []

    def open(self, train: _Members, test: _Members | None) -> OpenSource:
        everything = len(train.paths) + (len(test.paths) if test else 0)
        full = self.request.on_bad_file == "skip" or everything <= MOST_CHECKED
        splits = [self._split(part, full) if part else None for part in (train, test)]
        names = tuple(map(text_of, self.classes))
        assert splits[0] is not None
        return OpenSource(names, None, None, splits[0], splits[1], self._listing())

    def _split(self, part: _Members, full: bool) -> SourceSplit:
        numbers = {name: number for number, name in enumerate(self.classes)}
        before = set(part.labels)
        good = [self._usable(path, full) for path in part.paths]
        paths = [path for path, usable in zip(part.paths, good, strict=True) if usable]
        labels = [label for label, usable in zip(part.labels, good, strict=True) if usable]
        gone = sorted(name for name in before - set(labels) if name is not None)
        if gone and self.request.classes is None:
            where = next(path for path, label in zip(part.paths, part.labels, strict=True) if label == gone[0])
            folder = self.tree.shown(where.rpartition("/")[0])
            raise DataError(f"The class {text_of(gone[0])!r} has no readable image in {folder}.", "Add images.")
        array = np.array([-1 if label is None else numbers[label] for label in labels], dtype=np.int64)
        reader, headers = self.tree.reader, self.headers
        return SourceSplit(
            array,
            lambda i: reader.picture(paths[i]),
            lambda i: headers.get(paths[i]) or reader.header(paths[i]),
            lambda i: self._bytes(paths[i]),
            lambda i: self.tree.shown(paths[i]),
        )

    def _bytes(self, path: str) -> bytes:
        try:
            return self.tree.reader.read(path, MOST_BYTES)
        except PermissionError as error:
            raise DataError(
                f"{self.tree.shown(path)} cannot be read: permission denied.",
                "Change its mode with chmod, or run as its owner.",
            ) from error
        except Exception as error:  # a damaged archive raises any exception
            raise DataError(f"{self.tree.shown(path)} cannot be read ({error}).", BAD_FILE) from error

    def _usable(self, path: str, full: bool) -> bool:
        """Whether a file is a picture; it is noted if not.

        Raises:
            DataError: it should be one, by its name.
        """
        sure = kind_of_file(path.rpartition("/")[2]) == "picture"
        if sure and not full:
            return True
        try:
            self.headers[path] = self.tree.reader.header(path)
            return True
        except DataError as error:
            if not sure:
                self.no_picture.append(path)
            elif self.request.on_bad_file == "skip":
                self.bad.append(path)
            elif extension(path) in UNREAD:
                files = [file for split in self.found.splits.values() for file in split.paths]
                more = sum(extension(file) in UNREAD for file in files) - 1
                alike = f"; so {'are' if more > 1 else 'is'} {more:,} more" if more > 0 else ""
                raise DataError(
                    f"{self.tree.shown(path)} is of a format that is not read here (.{extension(path)}){alike}.",
                    "Convert it to PNG or JPEG, or leave out such files with dataset.on_bad_file = skip.",
                ) from error
            else:
                raise
            return False

    def _listing(self) -> Listing:
        found, left = self.found, []
        if self.bad:
            count = len(self.bad)
            what = f"{count:,} bad file{'s' if count > 1 else ''}"
            left.append(LeftOut(what, count, BAD_REASON, tuple(map(self.tree.shown, self.bad))))
        if self.no_picture:
            left.append(left_out("file", "files", self.no_picture, "no picture, by its contents"))
        roles = {name: "train" if name in self.roles.train else "test" if name == self.roles.test else "unused"
                 for name in found.splits}  # fmt: skip
        splits = tuple(
            SplitFacts(name, roles[name], len(part.paths), "files", f"{part.why}; {self.roles.why[name]}", part.sources)  # type: ignore[arg-type]
            for name, part in found.splits.items()
        )
        return Listing(
            splits=splits,
            columns=found.columns,
            class_order=found.order or "sorted by name, as ImageFolder",
            left_out=(*left, *found.left_out, *self.tree.left_out()),
            notes=(*self._notes(), *found.notes, *self.roles.notes),
        )

    def _notes(self) -> list[str]:
        notes = []
        natural = sorted(self.classes, key=natural_key)
        if self.request.classes is None and not self.found.order and natural != list(self.classes):
            at = next(i for i, name in enumerate(natural) if name != self.classes[i])
            notes.append(
                f"Class {at} is {text_of(self.classes[at])}, as names are sorted letter by letter; tesla 0.1.0 sorted "
                f"numbers by value ({', '.join(map(text_of, natural[:3]))}, ...). For its order, list the classes so "
                "in a file for dataset.classes."
            )
        notes += [*alike(self.classes), *linked_twice(self.tree)]
        if any(text_of(name) != name for name in self.classes):
            notes.append("Names of classes that are not UTF-8 are shown with replacement characters.")
        return [*notes, *readable_names(self.tree, self.found.root, self.classes)]

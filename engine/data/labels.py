"""Which images of a source are used: those with a valid label, of a class that is used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from engine.data.class_list import ClassChoice, read_class_list
from engine.data.dataset import Classes
from engine.data.report import LeftOut
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, SourceSplit
from engine.errors import DataError, counted

EXAMPLES = 5


@dataclass(frozen=True)
class Labelled:
    """A split with its final class numbers."""

    split: SourceSplit
    """Its labels are final; below 0 where an image is left out."""
    index: Classes
    """Images that are used, sorted."""

    @property
    def labels(self) -> Classes:
        """Class numbers of the images that are used."""
        return self.split.labels[self.index]


@dataclass(frozen=True)
class Labels:
    """The classes that are used, and the images of each split."""

    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    reordered: bool
    """Whether dataset.classes gives the order."""


def chosen_labels(opened: OpenSource, request: DataRequest) -> Labels:
    """Apply `dataset.invalid_labels` and `dataset.classes`, and leave out classes without training images.

    Raises:
        DataError: images without a valid class, or fewer than two classes.
        UsageError: see `read_class_list`.
    """
    left_out: list[LeftOut] = []
    train = _valid(opened.train, "train", opened.classes, request, left_out)
    test = _valid(opened.test, "test", opened.classes, request, left_out) if opened.test is not None else None
    sizes = np.bincount(train[train >= 0], minlength=len(opened.classes))
    test_sizes = np.zeros_like(sizes) if test is None else np.bincount(test[test >= 0], minlength=len(opened.classes))
    if request.classes is not None:
        choice = read_class_list(request.classes, opened.classes)
        left_out += _unlisted(opened.classes, choice.numbers, sizes + test_sizes)
        empty = [name for k, name in enumerate(choice.names) if not sizes[choice.numbers == k].sum()]
        if empty:
            raise DataError(
                f"dataset.classes lists {empty[0]!r}, which has no training images.", "Remove it from the file."
            )
    else:
        choice = _with_images(opened.classes, sizes)
        left_out += _without_images(opened.classes, sizes, test_sizes)
    if len(choice.names) < 2:
        only = f"only the class {choice.names[0]!r}" if choice.names else "no images with a class"
        raise DataError(f"{request.title} has {only}; a dataset needs at least two classes.", "Add images of another.")
    return Labels(
        choice.names,
        _renumbered(opened.train, train, choice.numbers),
        _renumbered(opened.test, test, choice.numbers) if opened.test is not None and test is not None else None,
        tuple(left_out),
        choice.notes,
        request.classes is not None,
    )


def _valid(
    split: SourceSplit,
    role: Literal["train", "test"],
    classes: Sequence[str],
    request: DataRequest,
    left_out: list[LeftOut],
) -> Classes:
    """Labels with -1 for every one that is no class."""
    labels = split.labels
    bad = (labels < 0) | (labels >= len(classes))
    if not bad.any():
        return labels
    values = Counter(map(int, labels[bad]))
    shown = ", ".join(
        f"{'missing or -1' if value == -1 else value} ({counted(count, 'image')})"
        for value, count in values.most_common(EXAMPLES)
    )
    more = f", and {len(values) - EXAMPLES} other numbers" if len(values) > EXAMPLES else ""
    count = int(bad.sum())
    if request.invalid_labels == "error":
        raise DataError(
            f"{request.title}: {count:,} of {len(labels):,} {role} images have no valid class. "
            f"There are {len(classes):,} classes, and these labels: {shown}{more}.",
            "To leave those images out, set dataset.invalid_labels = drop.",
        )
    reason = f"their label is none of the {len(classes):,} classes: {shown}{more}"
    examples = tuple(f"number {i}" for i in np.flatnonzero(bad)[:EXAMPLES])
    what = f"{counted(count, f'{role} image')} without a valid class"
    left_out.append(LeftOut(what, count, f"{reason} (dataset.invalid_labels = drop)", examples))
    return np.where(bad, -1, labels)


def _unlisted(classes: Sequence[str], numbers: Classes, sizes: Classes) -> list[LeftOut]:
    gone = np.flatnonzero(numbers < 0)
    if not len(gone):
        return []
    what = f"{counted(len(gone), 'class', 'classes')} with {counted(int(sizes[gone].sum()), 'image')}"
    examples = tuple(classes[k] for k in gone[:EXAMPLES])
    return [LeftOut(what, len(gone), "not listed in the file of dataset.classes", examples, "a line in that file")]


def _with_images(classes: Sequence[str], sizes: Classes) -> ClassChoice:
    present = sizes > 0
    numbers = np.where(present, np.cumsum(present) - 1, -1)
    names = tuple(name for name, there in zip(classes, present, strict=True) if there)
    if present.all():
        return ClassChoice(names, numbers)
    first = int(np.flatnonzero(~present)[0])
    moved = first < int(np.flatnonzero(present)[-1]) if present.any() else False
    note = f"Classes after {classes[first]!r} have other numbers here than in the source, as it has no training images."
    return ClassChoice(names, numbers, (note,) if moved else ())


def _without_images(classes: Sequence[str], sizes: Classes, test_sizes: Classes) -> list[LeftOut]:
    gone = np.flatnonzero(sizes == 0)
    if not len(gone):
        return []
    tests = int(test_sizes[gone].sum())
    what = counted(len(gone), "class", "classes") + (f" with {counted(tests, 'test image')}" if tests else "")
    reason = "no training images"
    return [LeftOut(what, len(gone), reason, tuple(classes[k] for k in gone[:EXAMPLES]))]


def _renumbered(split: SourceSplit, labels: Classes, numbers: Classes) -> Labelled:
    """The split with new class numbers; `numbers[-1]` is never meant by the label -1."""
    final = np.where(labels >= 0, numbers[labels], -1).astype(np.int64)
    return Labelled(replace(split, labels=final), np.flatnonzero(final >= 0))

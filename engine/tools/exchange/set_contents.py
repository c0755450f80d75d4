"""What is in the files of a set, by the class numbers of the dataset: images, labels, their order, the step size."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.data import Dataset
from engine.errors import DataError, UsageError
from engine.events import Event
from engine.runs.workspace import OpenDataset
from engine.tools.exchange.set_choice import Chosen, Shape, choose, lone_labels, names_in, rate_in
from engine.tools.exchange.set_classes import ClassOrder, class_order
from engine.tools.exchange.set_files import SetFiles, read_number
from engine.tools.exchange.set_labels import ReadLabels, read_labels, renumbered
from engine.tools.exchange.set_pictures import read_pictures
from engine.tools.exchange.set_tree import dotted, shapes
from engine.training.evaluation import BASELINE_LR

SMALLEST_RATE, LARGEST_RATE = 1e-12, 1e4
"""Step sizes that can have been learned: networks do not change with less, and diverge with more."""


@dataclass(frozen=True)
class Wanted:
    """What to import, and how."""

    images: Path
    """A file, or a folder."""
    labels: Path | None = None
    """None: with the images, or beside them (`labels_best.pt` of `images_best.pt`)."""
    lr: str | None = None
    """A number, or the file of one; None: with the images, or beside them."""
    space: str | None = None
    """`normalised`, `whitened` or `pixels`; None to tell from the values."""
    mean: str | None = None
    """Comma-separated statistics of the publisher's normalisation; None: the workspace's are near enough."""
    std: str | None = None
    label_kind: str = "auto"
    """`auto`, `probabilities`, `logits`, `regression` or `hard`."""
    experiment: int | None = None
    """Which set of a file with several."""
    images_at: str | None = None
    """Path of the images in the file, such as `data.0.0`."""
    labels_at: str | None = None
    epoch: str | None = None
    """Of labels for every epoch: `mean`, or a number."""
    classes: str | None = None
    """`dataset`, `sorted`, or a file of class names in the order of the set's class numbers."""
    per_class: int | None = None
    """Images to keep of each class, the first ones; None for all."""
    formation: int = 1
    """Images on a side of each stored one (IDC's factor)."""

    @property
    def options(self) -> tuple[str, ...]:
        """What was typed to read these files, as words of a command; without the files, `--lr` and `--space`."""
        given = (
            ("--mean", self.mean), ("--std", self.std),
            ("--labels", None if self.label_kind == "auto" else self.label_kind),
            ("--experiment", self.experiment), ("--images-at", self.images_at), ("--labels-at", self.labels_at),
            ("--epoch", self.epoch), ("--classes", self.classes), ("--per-class", self.per_class),
            ("--formation", None if self.formation == 1 else self.formation),
        )  # fmt: skip
        return tuple(str(word) for option, value in given if value is not None for word in (option, value))


@dataclass(frozen=True)
class Contents:
    """A set as its files have it, before its values are converted."""

    chosen: Chosen
    labels: ReadLabels
    """By the dataset's class numbers."""
    labels_from: str
    labels_path: Path
    order: ClassOrder
    lr: float
    lr_from: str
    lr_known: bool
    space: str | None
    """As an export of this program names it."""
    found: tuple[str, ...]
    """Every tensor, as text."""
    left_out: tuple[str, ...]


def read_contents(files: SetFiles, opened: OpenDataset, wanted: Wanted) -> Generator[Event, None, Contents]:
    """Choose and read everything. Use as `yield from`.

    Raises:
        UsageError: an option contradicts the files, or has to decide.
        DataError: they do not fit the dataset.
    """
    dataset = opened.dataset
    left_out: list[str] = []
    shape = Shape(dataset.name, len(dataset.classes), dataset.channels, dataset.resolution)
    if files.pictures:
        files.tree, sources, kinds, left_out = yield from read_pictures(files.path, shape, dataset.classes)
        files.sources[:0], files.kinds = sources, {**kinds, **files.kinds}
    space, images_at = files.recipe.space if files.recipe else None, wanted.images_at
    if images_at is None and ("space.mean",) in files.tree.tensors:
        images_at, space = _own_export(files, opened)
    alone = files.labels is not None
    chosen = choose(
        files.tree, shape, files.path, images_at, wanted.experiment,
        labels_at=None if alone else wanted.labels_at, with_labels=not alone,
    )  # fmt: skip
    if not len(chosen.images):
        raise DataError(f"{files.path} holds 0 images ({chosen.images_at}).", "Use a file with images.")
    labels, path = _labels(files, chosen, shape, wanted)
    order = _class_order(files, chosen, dataset, wanted)
    lr, lr_from, known = yield from _rate(files, chosen, wanted)
    return Contents(
        chosen, renumbered(labels, order.numbers),
        f"{path.name if alone else chosen.labels_at or 'by place'}: {labels.words}", path, order, lr, lr_from, known,
        space, _found(files), (*_unused(files, chosen), *left_out),
    )  # fmt: skip


def _own_export(files: SetFiles, opened: OpenDataset) -> tuple[str, str]:
    """Which images of an export of this program: those in its input space where it is this one, else the pixels."""
    same = all(
        (there := files.tree.tensors.get((f"space.{name}",))) is not None and torch.equal(there, tensor)
        for name, tensor in opened.space.tensors().items()
    )
    return ("images", "whitened" if opened.space.kind == "zca" else "normalised") if same else ("pixels", "pixels")


def _labels(files: SetFiles, chosen: Chosen, shape: Shape, wanted: Wanted) -> tuple[ReadLabels, Path]:
    """The labels by the class numbers of the file, and the file they are from."""
    count, path, stored = len(chosen.images), files.path, chosen.labels
    if files.labels is not None and files.labels_path is not None:
        path = files.labels_path
        stored = lone_labels(files.labels, count, shape, path, wanted.labels_at)
    elif stored is None:
        stored = chosen.implied
    if stored is None:
        raise UsageError(f"{files.path} holds images only.", "Add its labels file as the second argument.")
    return read_labels(stored, count, shape, path, wanted.label_kind, wanted.epoch), path


def _class_order(files: SetFiles, chosen: Chosen, dataset: Dataset, wanted: Wanted) -> ClassOrder:
    named, source = chosen.names, f"{files.path}, {chosen.images_at}"
    for tree, path in ((files.tree, files.path), (files.labels, files.labels_path)):
        if named is None and tree is not None and (found := names_in(tree)) is not None:
            named, source = found[0], f"{path}, {'names of classes' if files.pictures else dotted(found[1])}"
    if named is None and files.recipe is not None:
        named, source = files.recipe.classes, "recipe.json"
    return class_order(dataset.classes, dataset.name == "folder", wanted.classes, named, source)


def _rate(files: SetFiles, chosen: Chosen, wanted: Wanted) -> Generator[Event, None, tuple[float, str, bool]]:
    """The learned step size, where it is from, and whether it is known at all."""
    known = True
    if wanted.lr is not None:
        try:
            lr, source = float(wanted.lr), "--lr"
        except ValueError:
            lr, source = (yield from read_number(Path(wanted.lr))), f"from {Path(wanted.lr).name}"
    elif (found := rate_in(files.tree, chosen.used)) is not None:
        lr, source = found[0], f"from {dotted(found[1])} in {files.path.name}"
    elif files.lr_path is not None:
        lr, source = (yield from read_number(files.lr_path)), f"from {files.lr_path.name} beside the images"
    elif files.recipe is not None and files.recipe.student_lr is not None:
        lr, source = files.recipe.student_lr, "from recipe.json"
    else:
        lr, source = BASELINE_LR, "not in the files: the default for training on real images"
        known = False
    if not SMALLEST_RATE <= lr <= LARGEST_RATE:
        raise DataError(
            f"The step size is {lr} ({source}); it must be positive, from {SMALLEST_RATE:g} to {LARGEST_RATE:g}.",
            "Give one with --lr.",
        )
    return lr, source, known


def _found(files: SetFiles) -> tuple[str, ...]:
    found = [*shapes(files.tree, files.path.name)]
    if files.labels is not None and files.labels_path is not None:
        found += shapes(files.labels, files.labels_path.name)
    return tuple(found)


def _unused(files: SetFiles, chosen: Chosen) -> Iterator[str]:
    """What the file holds besides the set, each with its reason."""
    rate, names = rate_in(files.tree, chosen.used), names_in(files.tree)
    for path, tensor in files.tree.tensors.items():
        if path not in chosen.used and (rate is None or path != rate[1]):
            yield f"{dotted(path)} {tuple(tensor.shape)}: not chosen"
    for path in files.tree.texts:
        if names is None or path != names[1]:
            yield f"{dotted(path)}: text"
    for path, kind in files.tree.others.items():
        yield f"{dotted(path)}: {kind}, no tensor"

"""Labels of a published set: class numbers, one-hot rows, probabilities, logits; or any of them for every epoch."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import DataError, UsageError
from engine.tools.exchange.set_choice import Shape
from engine.training.labels import hard_labels, nearest_probabilities

SUM = {torch.bfloat16: 1e-2}
"""How far the sum of published probabilities may be from 1; 1e-3 for other types, which are more exact."""


@dataclass(frozen=True)
class ReadLabels:
    """Labels by the class numbers of the file."""

    probabilities: Tensor
    """`(N, K)`, float32."""
    index: Tensor
    """`(N,)`, the class that each image is of: the numbers, or the largest probability."""
    hard: bool
    words: str


def read_labels(labels: Tensor, count: int, shape: Shape, path: Path, kind: str, epoch: str | None) -> ReadLabels:
    """Convert labels of any kind.

    Args:
        labels: as they are stored.
        count: N, the images.
        shape: of the dataset.
        path: their file, for errors.
        kind: `auto`, `probabilities`, `logits`, `regression` or `hard`.
        epoch: of labels with one row per epoch: `mean`, or a number; None if not given.

    Raises:
        UsageError: per-epoch labels and no `epoch`, or the other way round.
        DataError: they do not fit the images or the dataset.
    """
    if labels.is_floating_point() and not torch.isfinite(labels).all():
        raise DataError(f"{path} has labels that are infinite or NaN.")
    labels, epochs = _flat(labels, count, shape)
    if epochs is None:
        if epoch is not None:
            raise UsageError(f"{path} has one label per image, not one per epoch.", "Leave out --epoch.")
        return _one_epoch(labels, count, shape, path, kind)
    if epoch is None:
        raise UsageError(
            f"{path} has labels of {epochs} epochs, {tuple(labels.shape)}; a run keeps one label per image.",
            f"Choose with --epoch mean, or the number of an epoch, 0 to {epochs - 1}.",
        )
    if epoch == "mean":
        each = [_one_epoch(row, count, shape, path, kind) for row in labels]
        mean = torch.stack([found.probabilities for found in each]).mean(dim=0)
        return ReadLabels(mean, mean.argmax(dim=1), False, f"soft labels, mean of {epochs} epochs")
    if not epoch.isdecimal() or int(epoch) >= epochs:
        raise UsageError(f"--epoch {epoch}: {path} has the epochs 0 to {epochs - 1}.", "Or use --epoch mean.")
    found = _one_epoch(labels[int(epoch)], count, shape, path, kind)
    return ReadLabels(found.probabilities, found.index, found.hard, f"{found.words} of epoch {epoch} of {epochs}")


def _flat(labels: Tensor, count: int, shape: Shape) -> tuple[Tensor, int | None]:
    """`(N,)` or `(N, K)`, and None; or a leading axis of epochs, and their number."""
    size, k = tuple(labels.shape), shape.classes
    if len(size) == 3 and size[2] == k and size[1] != count and size[0] * size[1] == count:
        return labels.flatten(0, 1), None  # (classes, ipc, K)
    if len(size) == 3 and size[1:] == (count, k):
        return labels, size[0]
    if len(size) == 2 and size[1] not in (1, k) and size[0] * size[1] == count:
        return labels.flatten(), None  # (classes, ipc)
    if len(size) == 2 and size[1] == count and size[0] != count and size[1] != k:
        return labels, size[0]
    if len(size) == 2 and size[0] == k and size[1] == k and count == k * k:
        return labels.flatten(), None
    return labels, None


def _one_epoch(labels: Tensor, count: int, shape: Shape, path: Path, kind: str) -> ReadLabels:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 0 or len(labels) != count:
        raise DataError(
            f"{path} has {len(labels) if labels.ndim else 1} labels for {count} images.",
            "Use images and labels that were saved together.",
        )
    if labels.ndim == 2 and labels.shape[1] != shape.classes:
        raise DataError(f"{path} has labels of {labels.shape[1]} classes; {shape.dataset} has {shape.classes}.")
    if labels.ndim > 2 or (labels.ndim == 1 and labels.is_floating_point() and (labels != labels.round()).any()):
        raise DataError(f"{path} has labels of shape {tuple(labels.shape)} and type {labels.dtype}.", "See --labels.")
    if labels.ndim == 2 and kind != "hard":
        return _soft(labels, path, kind)
    index = labels.argmax(dim=1) if labels.ndim == 2 else labels.to(torch.int64)
    if index.min() < 0 or index.max() >= shape.classes:
        outside = index[(index < 0) | (index >= shape.classes)][0].item()
        raise DataError(
            f"{path} has a label {outside}; {shape.dataset} has the classes 0 to {shape.classes - 1}.",
            "The file counts classes from 1: subtract 1." if index.min() == 1 and index.max() == shape.classes else "",
        )
    words = "hard labels: the largest of each row" if labels.ndim == 2 else "hard labels: class numbers"
    return ReadLabels(hard_labels(index, shape.classes, torch.float32), index, True, words)


def _soft(labels: Tensor, path: Path, kind: str) -> ReadLabels:
    values, words = labels.to(torch.float32), "soft labels: probabilities"
    if kind == "logits":
        values, words = values.softmax(dim=1), "soft labels: softmax of logits"
    elif kind == "regression":
        # Projected, not scaled: the result is the same for targets that were centred, as KIP's are (one-hot - 1/K).
        values, words = nearest_probabilities(values), "soft labels: probabilities nearest to regression targets"
    elif (values < 0).any() or ((values.sum(dim=1) - 1).abs() > SUM.get(labels.dtype, 1e-3)).any():
        raise DataError(
            f"The labels of {path} are not probabilities: their sums range from {values.sum(dim=1).min():.3g} to "
            f"{values.sum(dim=1).max():.3g}.",
            "Specify their kind: --labels logits (converted with a softmax), --labels regression (regression targets, "
            "as KIP's; converted to the nearest probabilities) or --labels hard (the largest).",
        )
    index = values.argmax(dim=1)
    if bool((values.max(dim=1).values == 1).all()) and bool(((values == 0) | (values == 1)).all()):
        return ReadLabels(values, index, True, "hard labels: one-hot rows")
    return ReadLabels(values, index, False, words)


def renumbered(labels: ReadLabels, numbers: tuple[int, ...]) -> ReadLabels:
    """The same labels by the dataset's class numbers; `numbers` has one for each class number of the file."""
    if numbers == tuple(range(len(numbers))):
        return labels
    to = torch.tensor(numbers)
    probabilities = torch.empty_like(labels.probabilities)
    probabilities[:, to] = labels.probabilities
    return ReadLabels(probabilities, to[labels.index], labels.hard, labels.words)


def order_by_class(
    labels: ReadLabels, numbers: tuple[int, ...], path: Path, names: tuple[str, ...], most: int | None
) -> tuple[Tensor, str]:
    """The images in the order of a run: by class, the same number of each. Indices into N, and how many, as text.

    Args:
        labels: by the dataset's class numbers.
        numbers: the dataset's class number of each of the file's.
        path: for errors.
        names: of the dataset's classes.
        most: images to keep of each class, the first ones; None for all.

    Raises:
        UsageError: a class has fewer than `most`.
        DataError: classes have different numbers of images, and `most` is None.
    """
    index, classes, by = labels.index, len(names), ""
    sizes = torch.bincount(index, minlength=classes)
    even = bool((sizes == sizes[0]).all())
    if not even and not labels.hard and len(index) % classes == 0:
        # Soft labels may put another class first, so the order of their file is trusted where it is possible.
        index = torch.tensor(numbers).repeat_interleave(len(index) // classes)
        sizes, even = torch.bincount(index, minlength=classes), True
        by = "; classes by place in the file, as the largest probabilities are not the same number of each"
    few, many = int(sizes.argmin()), int(sizes.argmax())
    least = int(sizes[few])
    if most is None and not even:
        raise DataError(
            f"{path}: {_class(few, names)} has {least} images and {_class(many, names)} has {sizes[many]}; a run has "
            "the same number of each.",
            f"Import the first {least} of each with --per-class {least}." if least else "Every class needs images.",
        )
    if most is not None and least < most:
        raise UsageError(
            f"--per-class {most}: {_class(few, names)} of {path} has {least} images.",
            f"Use --per-class {least}." if least else "Every class needs images.",
        )
    kept = least if most is None else most
    order, starts = index.argsort(stable=True), sizes.cumsum(0) - sizes
    words = f"{kept} per class" if even and kept == least else f"{kept} of {least} to {sizes[many]} per class"
    return torch.cat([order[start : start + kept] for start in starts.tolist()]), words + by


def _class(number: int, names: tuple[str, ...]) -> str:
    return f"class {number}" if names[number] == str(number) else f"class {number} ({names[number]})"

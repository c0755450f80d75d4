"""Which tensors of a file are a set's images and labels: by the dataset's image shape, by name, or as the user says.

Nothing is guessed: several that fit are an error that names the option which decides.
"""

from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import torch
from torch import Tensor

from engine.errors import DataError, UsageError
from engine.tools.exchange.set_tree import Group, Path, Tree, dotted, number_texts, shapes

IMAGES = frozenset(("images", "image", "image_syn", "images_syn", "syn_images", "imgs", "img", "data", "x", "x_syn",
                    "inputs", "x_train", "x_distilled"))  # fmt: skip
LABELS = frozenset(("labels", "label", "label_syn", "labels_syn", "syn_labels", "targets", "target", "y", "y_syn",
                    "y_train", "y_distilled", "soft_label", "soft_labels"))  # fmt: skip
RATES = frozenset(("lr", "syn_lr", "lr_syn", "student_lr", "learning_rate"))
NAMES = frozenset(("classes", "class_names", "classnames", "class_to_idx", "label_names"))
SHOWN = 6


@dataclass(frozen=True)
class Shape:
    """What an image of the dataset looks like."""

    dataset: str
    classes: int
    channels: int
    side: int

    @property
    def image(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.channels, self.side, self.side


@dataclass(frozen=True)
class Chosen:
    """Images in the dataset's layout, and labels as they are stored."""

    images: Tensor
    """`(N, C, H, W)`."""
    images_at: str
    layout: str
    labels: Tensor | None
    labels_at: str
    implied: Tensor | None
    """`(N,)`, the class by place in a file with a list or an axis of classes; None without one."""
    used: frozenset[Path] = frozenset()
    names: tuple[str, ...] | None = None
    """Class names, of a dictionary with a tensor of images per class."""


def as_images(tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
    """`(..., C, H, W)` and what the layout was; None if the tensor is not images of the dataset."""
    c, side = shape.channels, shape.side
    if tensor.ndim >= 4 and tuple(tensor.shape[-3:]) == (c, side, side):
        return tensor, "channels first"
    if tensor.ndim >= 4 and tuple(tensor.shape[-3:]) == (side, side, c):
        return tensor.movedim(-1, -3), "channels last"
    # Four axes without one of channels are (classes, ipc, H, W), not images of other channels.
    leading_fits = tensor.ndim == 3 or (tensor.ndim == 4 and tensor.shape[0] == shape.classes)
    if c == 1 and leading_fits and tuple(tensor.shape[-2:]) == (side, side):
        return tensor.unsqueeze(-3), "no channel axis"
    if c == 1 and tensor.ndim == 2 and tensor.shape[1] == side * side and side * side > shape.classes:
        return tensor.reshape(-1, 1, side, side), "flat"
    return None


def choose(
    tree: Tree, shape: Shape, file: FilePath, images_at: str | None, experiment: int | None,
    *, labels_at: str | None, with_labels: bool,
) -> Chosen:  # fmt: skip
    """Find the images, and the labels that lie beside them unless these are in another file.

    Raises:
        UsageError: several fit, or an option names none.
        DataError: none fits.
    """
    number_texts(tree, LABELS)
    found = _group(tree, shape, file) if images_at is None else None
    if found is None:
        path = _images(tree, shape, file, images_at, experiment)
        images, layout = as_images(tree.tensors[path], shape) or (tree.tensors[path], "")
        found = _by_class(images, layout, shape, file)
        found = replace(found, images_at=dotted(path, file.name), used=frozenset([path]))
    elif experiment not in (None, 0):
        raise UsageError(f"{file} holds one set, so there is no experiment {experiment}.", "Leave out --experiment.")
    at = _labels(tree, found, shape, file, labels_at) if with_labels else None
    if at is None:
        return found
    return replace(found, labels=tree.tensors[at], labels_at=dotted(at, file.name), used=found.used | {at})


def _by_class(images: Tensor, layout: str, shape: Shape, file: FilePath) -> Chosen:
    """Images `(N, C, H, W)`, or `(classes, ipc, C, H, W)`, whose classes are then known by place."""
    implied = None
    if images.ndim == 5:
        if images.shape[0] == shape.classes:
            implied = torch.arange(shape.classes).repeat_interleave(images.shape[1])
            layout = f"(classes, ipc) and {layout}"
        images = images.flatten(0, 1)
    if images.ndim != 4:
        raise DataError(f"The images of {file} have {images.ndim} axes.", "Save them as (N, C, H, W).")
    return Chosen(images, "", layout, None, "", implied)


def _group(tree: Tree, shape: Shape, file: FilePath) -> Chosen | None:
    """A list of images, one tensor per class or (image, label) pairs; None if there is none, or more than one."""
    fitting: list[tuple[Path, Group, list[Tensor], str]] = []
    for path, group in tree.groups.items():
        if group.labels is None and len(group.parts) != shape.classes:
            continue
        if any(name.lower() in IMAGES | LABELS for name in group.names or ()):
            continue  # of a set with two classes: names of tensors, not of classes
        parts = group.parts if group.labels is None else tuple(part[None] for part in group.parts)
        laid = [as_images(part, shape) for part in parts]
        tensors = [pair[0] for pair in laid if pair is not None and pair[0].ndim == 4]
        if len(tensors) == len(parts):
            fitting.append((path, group, tensors, laid[0][1] if laid[0] else ""))
    if len(fitting) != 1:
        return None
    path, group, tensors, layout = fitting[0]
    counts = torch.tensor([len(tensor) for tensor in tensors])
    implied = torch.arange(len(tensors)).repeat_interleave(counts) if group.labels is None else group.labels
    words = f"a list of {len(tensors)} classes" if group.labels is None else "a list of (image, label) pairs"
    dtype = tensors[0].dtype
    images = torch.cat([tensor.to(dtype) for tensor in tensors])
    used = frozenset(p for p in tree.tensors if p[: len(path)] == path)
    return Chosen(images, dotted(path, file.name), f"{words}, {layout}", None, "", implied, used, group.names)


def _images(tree: Tree, shape: Shape, file: FilePath, wanted: str | None, experiment: int | None) -> Path:
    fitting = [path for path, tensor in tree.tensors.items() if as_images(tensor, shape) is not None]
    if wanted is not None:
        return _at(tree, wanted, file, "--images-at", shape)
    if not fitting:
        raise _none_fits(tree, shape, file)
    several = _experiments(fitting)
    if several is not None:
        axis, numbers = several
        if experiment is None:
            raise UsageError(
                f"{file} holds {len(numbers)} sets ({', '.join(dotted(path) for path in fitting[:3])}"
                f"{', ...' if len(fitting) > 3 else ''}).",
                f"Choose one with --experiment, 0 to {max(numbers)}.",
            )
        fitting = [path for path in fitting if path[axis] == str(experiment)]
        if not fitting:
            raise UsageError(f"{file} has no experiment {experiment}.", f"It has 0 to {max(numbers)}.")
    elif experiment not in (None, 0):
        raise UsageError(f"{file} holds one set, so there is no experiment {experiment}.", "Leave out --experiment.")
    return _only(fitting, IMAGES, file, "images", "--images-at")


def _experiments(paths: list[Path]) -> tuple[int, list[int]] | None:
    """The axis in which paths differ, and their numbers there; None unless they differ in one number alone."""
    if len(paths) < 2 or len({len(path) for path in paths}) > 1:
        return None
    differing = [i for i in range(len(paths[0])) if len({path[i] for path in paths}) > 1]
    if len(differing) != 1 or not all(path[differing[0]].isdecimal() for path in paths):
        return None
    return differing[0], [int(path[differing[0]]) for path in paths]


def _labels(tree: Tree, found: Chosen, shape: Shape, file: FilePath, wanted: str | None) -> Path | None:
    if wanted is not None:
        return _at(tree, wanted, file, "--labels-at", None)
    count = len(found.images)
    fitting = [p for p, t in tree.tensors.items() if p not in found.used and label_like(t, count, shape.classes)]
    if not fitting:
        # Labels of another length, so that the error speaks of them.
        fitting = [p for p in tree.tensors if p not in found.used and _named(p, LABELS)]
    home = min(found.used, default=())[:-1]
    beside = [path for path in fitting if path[:-1] == home]
    fitting = beside or [path for path in fitting if _named(path, LABELS)]
    if found.implied is not None:
        fitting = [path for path in fitting if _named(path, LABELS)]
    return _only(fitting, LABELS, file, "labels", "--labels-at") if fitting else None


def lone_labels(tree: Tree, count: int, shape: Shape, file: FilePath, wanted: str | None) -> Tensor:
    """The labels in a file of their own: the only tensor, or the one that fits the images.

    Raises:
        UsageError: several fit.
        DataError: there is none.
    """
    number_texts(tree, LABELS)
    if wanted is not None:
        return tree.tensors[_at(tree, wanted, file, "--labels-at", None)]
    paths = [path for path, tensor in tree.tensors.items() if label_like(tensor, count, shape.classes)]
    paths = paths or list(tree.tensors)
    if not paths:
        raise DataError(f"{file} holds no tensor of labels.", "Give the file with the labels as the second argument.")
    return tree.tensors[_only(paths, LABELS, file, "labels", "--labels-at")]


def label_like(tensor: Tensor, count: int, classes: int) -> bool:
    """Whether a tensor can be the labels of `count` images: numbers, rows of classes, or either for every epoch."""
    shape = tuple(tensor.shape)
    if shape[-1:] == (classes,) and len(shape) > 1 and shape[:-1] != (1,):
        shape = shape[:-1]  # of rows
        return shape[-1:] == (count,) or (len(shape) == 2 and shape[0] * shape[1] == count)
    return shape in ((count,), (count, 1)) or (len(shape) == 2 and (shape[1] == count or shape[0] * shape[1] == count))


def _at(tree: Tree, wanted: str, file: FilePath, option: str, shape: Shape | None) -> Path:
    path = next((path for path in tree.tensors if dotted(path) == wanted), None)
    if path is None:
        raise UsageError(f"{file} has no tensor {wanted} ({option}).", f"It has: {_listed(tree, file)}.")
    if shape is not None and as_images(tree.tensors[path], shape) is None:
        raise _misfit(tree.tensors[path], shape, file)
    return path


def _only(paths: list[Path], names: frozenset[str], file: FilePath, what: str, option: str) -> Path:
    named = [path for path in paths if _named(path, names)]
    chosen = named if len(named) == 1 else paths
    if len(chosen) > 1:
        listed = ", ".join(dotted(path) for path in chosen[:SHOWN])
        raise UsageError(
            f"{file} has {len(chosen)} tensors that could be the {what}: {listed}.",
            f"Choose one with {option}, for example {option} {dotted(chosen[0])}.",
        )
    return chosen[0]


def _named(path: Path, names: frozenset[str]) -> bool:
    return bool(path) and path[-1].rpartition(".")[2].lower() in names


def _none_fits(tree: Tree, shape: Shape, file: FilePath) -> DataError:
    large = [tensor for tensor in tree.tensors.values() if tensor.ndim >= 3]
    if len(large) == 1:
        return _misfit(large[0], shape, file)
    held = _listed(tree, file)
    return DataError(
        f"{file} has no images of {shape.dataset}, which are {shape.image}; it holds {held or 'no tensors'}.",
        "Use a workspace with the dataset that the set was distilled from "
        "(and --set dataset.resolution=N if the size differs).",
    )


def _misfit(tensor: Tensor, shape: Shape, file: FilePath) -> DataError:
    return DataError(
        f"The images of {file} have shape {tuple(tensor.shape)}; {shape.dataset} has images of {shape.image}.",
        "Use a workspace with the dataset that the set was distilled from "
        "(and --set dataset.resolution=N if the size differs).",
    )


def _listed(tree: Tree, file: FilePath) -> str:
    held = list(shapes(tree, file.name))
    return ", ".join(held[:SHOWN]) + (f" and {len(held) - SHOWN} more" if len(held) > SHOWN else "")


def rate_in(tree: Tree, used: frozenset[Path]) -> tuple[float, Path] | None:
    """The learned step size beside the images; None if there is none, or more than one."""
    found = [
        (tensor, path) for path, tensor in tree.tensors.items()
        if path not in used and tensor.numel() == 1 and _named(path, RATES)
    ]  # fmt: skip
    return (float(found[0][0].reshape(()).item()), found[0][1]) if len(found) == 1 else None


def names_in(tree: Tree) -> tuple[tuple[str, ...], Path] | None:
    """The class names in a file, by class number; None if there are none, or more than one list."""
    found = [(texts, path) for path, texts in tree.texts.items() if _named(path, NAMES)]
    return found[0] if len(found) == 1 else None

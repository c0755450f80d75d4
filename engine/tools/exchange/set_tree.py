"""The value of a file as a flat list of named tensors: what is nested in containers gets a path, such as `data.0.1`.

Lists of numbers become tensors. A list or dictionary of image tensors, one per class, becomes a `Group`: published sets
have both layouts, one tensor of all images and one tensor per class.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.errors import DataError
from engine.tools.exchange.numpy_pickle import Array
from engine.tools.exchange.torch_reader import plain_tensor

DEEPEST = 12
MOST_LEAVES = 100_000
Path = tuple[str, ...]


@dataclass
class Tree:
    """What a file holds, by path."""

    tensors: dict[Path, Tensor] = field(default_factory=dict)
    texts: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    """Lists of texts, and the keys of `class_to_idx` dictionaries in the order of their numbers."""
    groups: dict[Path, "Group"] = field(default_factory=dict)
    others: dict[Path, str] = field(default_factory=dict)
    """Anything else, by the name of its type."""


@dataclass(frozen=True)
class Group:
    """Image tensors that lie together in a list or dictionary."""

    parts: tuple[Tensor, ...]
    names: tuple[str, ...] | None
    """The keys, of a dictionary by class names."""
    labels: Tensor | None = None
    """`(N,)`, of a list of (image, label) pairs; else the place in the list is the class."""


def dotted(path: Path, whole: str = ".") -> str:
    """A path as people read and type it; what is the value of a file itself has none, and is called `whole`."""
    return ".".join(path) or whole


def tree_of(value: Any, where: str) -> Tree:
    """Flatten a file's value.

    Raises:
        DataError: a tensor that is not plain, or a nesting too deep or too wide.
    """
    tree = Tree()
    try:
        _walk(value, (), tree, where)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:  # numbers that no tensor holds
        raise DataError(f"{where} holds values that are no tensors ({error}).", "Save only its tensors.") from error
    return tree


def _walk(value: Any, path: Path, tree: Tree, where: str) -> None:
    if len(path) > DEEPEST or len(tree.tensors) + len(tree.others) > MOST_LEAVES:
        raise DataError(f"{where} nests too many containers for a distilled set.", "Save only its images and labels.")
    if isinstance(value, Array):
        value = value.plain()
    if isinstance(value, Tensor):
        tree.tensors[path] = plain_tensor(value, f"{dotted(path, 'The tensor')} in {where}")
    elif isinstance(value, bool | int | float):
        tree.tensors[path] = torch.tensor(value)
    elif isinstance(value, Mapping) and value:
        if path[-1:] == ("class_to_idx",) and all(isinstance(number, int) for number in value.values()):
            tree.texts[path] = tuple(str(name) for name in sorted(value, key=lambda name: value[name]))
            return
        for key, inner in value.items():
            _walk(inner, (*path, str(key)), tree, where)
        _add_group(path, tree, [(*path, str(key)) for key in value], _names(value))
    elif isinstance(value, list | tuple) and value:
        _walk_list(value, path, tree, where)
    else:
        tree.others[path] = type(value).__name__ if value is not None else "nothing"


def _walk_list(value: Sequence[Any], path: Path, tree: Tree, where: str) -> None:
    if all(isinstance(item, bool | int | float) for item in value):
        tree.tensors[path] = torch.tensor(value)
    elif all(isinstance(item, str) for item in value):
        tree.texts[path] = tuple(value)
    elif all(isinstance(item, Tensor) and item.ndim == 0 for item in value):
        tree.tensors[path] = torch.stack([plain_tensor(item, f"{dotted(path)} in {where}") for item in value])
    elif (pairs := _pairs(value, f"{dotted(path)} in {where}")) is not None:
        tree.groups[path] = pairs
    else:
        members = [(*path, str(number)) for number in range(len(value))]
        for member, inner in zip(members, value, strict=True):
            _walk(inner, member, tree, where)
        if not _stacked(path, tree, members):
            _add_group(path, tree, members, None)


def _stacked(path: Path, tree: Tree, members: Sequence[Path]) -> bool:
    """Make one tensor of a list of single images, or of labels by class or epoch, if they have one shape."""
    parts = [tree.tensors[member] for member in members if member in tree.tensors]
    if len(parts) < max(2, len(members)) or len({part.shape for part in parts}) > 1 or not 1 <= parts[0].ndim <= 3:
        return False
    tree.tensors[path] = torch.stack(parts)
    for member in members:
        del tree.tensors[member]
    return True


def _names(value: Mapping[Any, Any]) -> tuple[str, ...] | None:
    keys = list(value)
    if all(isinstance(key, int) for key in keys):
        return None
    return tuple(map(str, keys))


def _add_group(path: Path, tree: Tree, members: Sequence[Path], names: tuple[str, ...] | None) -> None:
    """Remember tensors of images (at least two axes more than their class's list) that could be one per class."""
    if len(members) < 2 or not all(member in tree.tensors for member in members):
        return
    parts = [tree.tensors[member] for member in members]
    first = parts[0]
    if first.ndim < 2 or any(p.ndim != first.ndim or p.shape[-2:] != first.shape[-2:] for p in parts):
        return
    if names is None and all(member[-1].isdecimal() for member in members):
        parts = [part for _, part in sorted(zip((int(m[-1]) for m in members), parts, strict=True), key=lambda p: p[0])]
    tree.groups[path] = Group(tuple(parts), names)


def _pairs(value: Sequence[Any], where: str) -> Group | None:
    """Images and labels of a list of (image, class number) pairs."""
    images: list[Tensor] = []
    labels: list[int] = []
    for item in value:
        if not isinstance(item, list | tuple) or len(item) != 2:
            return None
        image, label = (part.plain() if isinstance(part, Array) else part for part in item)
        if not isinstance(image, Tensor) or image.ndim not in (2, 3) or (images and image.shape != images[0].shape):
            return None
        if isinstance(label, Tensor) and label.numel() == 1:
            label = label.item()
        if isinstance(label, bool) or not isinstance(label, int | float) or not float(label).is_integer():
            return None
        images.append(plain_tensor(image, where))
        labels.append(int(label))
    return Group(tuple(images), None, torch.tensor(labels))


def number_texts(tree: Tree, names: frozenset[str]) -> None:
    """Turn labels that are texts, one class name per image, into numbers and a list of the names."""
    for path, texts in list(tree.texts.items()):
        if (path[-1:] or ("labels",))[0].lower() in names:
            called = sorted(set(texts))
            place = {text: number for number, text in enumerate(called)}
            tree.tensors[path] = torch.tensor([place[text] for text in texts])
            tree.texts[(*path[:-1], "classes")] = tuple(called)
            del tree.texts[path]


def shapes(tree: Tree, whole: str) -> Iterator[str]:
    """Every list of images and every tensor as text: path, type, shape."""
    for path, group in tree.groups.items():
        yield f"{dotted(path, whole)} {len(group.parts)} tensors, the first {tuple(group.parts[0].shape)}"
    for path, tensor in tree.tensors.items():
        yield f"{dotted(path, whole)} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"

"""What published teacher buffers hold: containers, nesting and shapes are checked before any value is read.

A published file is a list of trajectories, each a list of epochs (row 0 at initialisation), each a list of parameter
tensors in `parameters()` order (MTT's buffer.py, used by TESLA, FTD and DATM).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.data import Dataset
from engine.errors import DataError, UsageError
from engine.events import Event
from engine.settings import Settings
from engine.tools.exchange.torch_reader import SourceFile, examine, file_size, load, plain_tensor
from engine.tools.exchange.torch_shapes import check_shapes


@dataclass(frozen=True)
class Outline:
    """What a file holds, before its values are read."""

    source: SourceFile
    epochs: tuple[int, ...]
    """Whole epochs of every trajectory in it."""
    parameters: int
    """P."""
    dtypes: frozenset[torch.dtype]


def outlines_of(files: Sequence[Path], settings: Settings, dataset: Dataset) -> Generator[Event, None, list[Outline]]:
    """Check published files against a network and a dataset. Use as `outlines = yield from ...`.

    Raises:
        UsageError: a file is missing, or given twice.
        DataError: a file is damaged, hostile, no buffer, or for another network.
    """
    total, done = sum(file_size(path) for path in files), 0
    outlines: list[Outline] = []
    for path in files:
        source = yield from examine(path, done, total)
        done += source.bytes
        for other in outlines:
            if other.source.sha256 == source.sha256:
                raise UsageError(f"{path} and {other.source.path} are the same file.", "Name each file once.")
        outlines.append(_outline(source, settings, dataset))
    return outlines


def _outline(source: SourceFile, settings: Settings, dataset: Dataset) -> Outline:
    epochs: list[int] = []
    dtypes: set[torch.dtype] = set()
    parameters = 0
    checked: set[tuple[tuple[int, ...], ...]] = set()
    value = load(source)
    if not _sequence(value):
        raise DataError(
            f"{source.path} holds a {type(value).__name__}, not a list of trajectories.",
            "A buffer is a list of trajectories, each a list of epochs, each a list of parameter tensors.",
        )
    for number, trajectory in enumerate(value):
        where = f"{source.path}, trajectory {number}"
        if not _sequence(trajectory) or not all(_sequence(snapshot) and len(snapshot) for snapshot in trajectory):
            raise DataError(
                f"{where} is not a list of epochs, each a list of tensors.",
                "The tensors of a buffer are nested three lists deep: trajectories, epochs, parameters.",
            )
        if len(trajectory) < 2:
            raise DataError(f"{where} has {len(trajectory)} snapshots; matching needs a start and a target.")
        for epoch, snapshot in enumerate(trajectory):
            here = f"{where}, epoch {epoch}"
            tensors = [plain_tensor(tensor, f"{here}, parameter {i}") for i, tensor in enumerate(snapshot)]
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            if shapes not in checked:
                check_shapes(shapes, settings.network, dataset, here)
                checked.add(shapes)
            dtypes.update(tensor.dtype for tensor in tensors)
            parameters = sum(tensor.numel() for tensor in tensors)
        epochs.append(len(trajectory) - 1)
    if not epochs:
        raise DataError(
            f"{source.path} holds no trajectory.", "Published code saves a file only after several are trained."
        )
    odd = [str(dtype) for dtype in dtypes if not dtype.is_floating_point]
    if odd:
        raise DataError(f"{source.path} has parameters of type {', '.join(odd)}; floating point is needed.")
    return Outline(source, tuple(epochs), parameters, frozenset(dtypes))


def _sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)

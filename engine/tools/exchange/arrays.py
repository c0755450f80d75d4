"""The arrays of a published distilled set, from `.pt`, `.npy` or `.npz`."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import DataError, UsageError
from engine.events import Event
from engine.tools.exchange.torch_reader import SourceFile, examine, file_size, load, plain_tensor

Arrays = dict[str, Tensor]


def read_arrays(images: Path, labels: Path | None) -> Generator[Event, None, tuple[list[SourceFile], Arrays]]:
    """`images` and `labels` as tensors, with the files they came from. Use as `yield from`.

    Raises:
        UsageError, DataError: no such file, damaged, hostile, or without what is looked for.
    """
    if labels is None and images.suffix != ".npz":
        file_size(images)  # a missing file is named first
        raise UsageError(f"{images} holds images only.", "Add its labels file as the second argument.")
    paths = [images] if labels is None else [images, labels]
    total, done = sum(map(file_size, paths)), 0
    sources: list[SourceFile] = []
    for path in paths:
        source = yield from examine(path, done, total, strict=path.suffix != ".npz")
        sources.append(source)
        done += source.bytes
    if labels is None:
        return sources, {name: _numpy(images, name) for name in ("images", "labels")}
    return sources, {name: _one(source, name) for name, source in zip(("images", "labels"), sources, strict=True)}


def read_number(text: str) -> Generator[Event, None, float]:
    """A number as typed, or the single one in a file. Use as `yield from`."""
    try:
        return float(text)
    except ValueError:
        path = Path(text)
    source = yield from examine(path, 0, file_size(path))
    tensor = _one(source, "the step size")
    if tensor.numel() != 1:
        raise DataError(f"{path} holds {tensor.numel()} numbers, not one step size.")
    return float(tensor.reshape(()).item())


def _one(source: SourceFile, name: str) -> Tensor:
    if source.path.suffix == ".npy":
        return _numpy(source.path, None)
    value = load(source)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor(float(value))
    if isinstance(value, dict):
        raise DataError(
            f"{source.path} holds a dictionary with {', '.join(map(repr, list(value)[:8]))}.",
            "Save each of its tensors to its own file: torch.save(value['images'], 'images.pt').",
        )
    return plain_tensor(value, f"{name} in {source.path}")


def _numpy(path: Path, name: str | None) -> Tensor:
    try:
        found: Any = np.load(path, allow_pickle=False, mmap_mode="c" if name is None else None)
        if name is not None:
            if name not in found.files:
                raise DataError(f"{path} has no array {name!r}; it has {', '.join(found.files[:8]) or 'none'}.")
            found = found[name]
        return torch.from_numpy(np.ascontiguousarray(found))
    except (MemoryError, OSError, DataError):
        raise
    except Exception as error:  # any exception that a hostile file causes
        first = " ".join(str(error).split())[:160]
        raise DataError(f"{path} cannot be read as arrays of numbers ({first}).", "No code in it was run.") from error

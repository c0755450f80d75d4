"""The network's input space: per-channel normalisation or ZCA whitening, and the way back to pixels."""

import errno
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from engine.data.dataset import Classes, Dataset
from engine.data.rows import Rows
from engine.data.whitening import KORNIAS, MOST_ZCA, fit_whitening, whitening_bytes, whitening_seconds
from engine.errors import CorruptFileError, UsageError
from engine.storage.atomic import read_tensors, write_tensors
from engine.storage.filesystem import format_bytes
from engine.storage.reading import exists

CHUNK = 4096


class InputSpace:
    """The affine map between pixels in [0, 1] and what the network sees.

    normalise: `(x - mean_c) / std_c`. zca: `(x - mean) W` on flattened images, `W` symmetric. `decode` inverts it.

    Args:
        kind: which of the two.
        tensors: `mean`, `std` `(C,)`; or `mean` `(1, D)`, `matrix`, `inverse` `(D, D)`.
    """

    def __init__(self, kind: Literal["normalise", "zca"], tensors: dict[str, Tensor]) -> None:
        self.kind = kind
        self._tensors = tensors

    def to(self, device: torch.device, dtype: torch.dtype) -> "InputSpace":
        """The same map on a device, in a floating-point type."""
        return InputSpace(self.kind, {name: tensor.to(device, dtype) for name, tensor in self._tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """What `InputSpace(kind, tensors)` needs again."""
        return dict(self._tensors)

    def encode(self, pixels: Tensor) -> Tensor:
        """Network inputs `(B, C, H, W)` of images: uint8, or floats in [0, 1]."""
        own = self._tensors["mean"]
        scaled = pixels.to(own.device, own.dtype)
        if not pixels.is_floating_point():
            scaled = scaled / 255
        if self.kind == "normalise":
            return (scaled - self._channel("mean")) / self._channel("std")
        return ((scaled.flatten(1) - own) @ self._tensors["matrix"]).view_as(scaled)

    def decode(self, inputs: Tensor) -> Tensor:
        """Pixel values of network inputs, in the scale of [0, 1], not clamped."""
        if self.kind == "normalise":
            return inputs * self._channel("std") + self._channel("mean")
        return (inputs.flatten(1) @ self._tensors["inverse"] + self._tensors["mean"]).view_as(inputs)

    def _channel(self, name: str) -> Tensor:
        return self._tensors[name].view(1, -1, 1, 1)


def fit_space(dataset: Dataset, index: Classes | None, zca: bool) -> InputSpace:
    """Fit the input space to training images (float32, on the CPU); the result is kept in the dataset's cache.

    Args:
        dataset: whose training images are used.
        index: which of them; None for all.
        zca: whitening instead of normalisation.

    Raises:
        UsageError: the images are too large for ZCA, or too many for this machine's memory.
    """
    kind: Literal["normalise", "zca"] = "zca" if zca else "normalise"
    pixels = dataset.channels * dataset.resolution**2
    if zca and pixels > MOST_ZCA:
        raise UsageError(
            f"dataset.zca: {dataset.resolution}x{dataset.resolution} images with {dataset.channels} channels need "
            f"a matrix of {pixels} x {pixels} numbers.",
            f"Set dataset.zca = false, or a smaller dataset.resolution (C x H x W of at most {MOST_ZCA:,}).",
        )
    path = space_path(dataset, index, zca)
    try:
        return InputSpace(kind, read_tensors(path)[0])
    except CorruptFileError:
        pass
    count = len(dataset.train_images) if index is None else len(index)
    if zca:
        # Physical, not free memory: what is refused must not depend on what else runs.
        needed, physical = whitening_bytes(count, pixels), psutil.virtual_memory().total
        if needed > physical:
            raise UsageError(
                f"dataset.zca: fitting to {count:,} images of {pixels} numbers takes {format_bytes(needed)} of memory; "
                f"this machine has {format_bytes(physical)}.",
                "Set dataset.zca = false, or a smaller dataset.resolution.",
            )
    index = np.arange(count) if index is None else index
    rows = Rows(dataset.train_images, mapped=False)
    space = InputSpace(kind, fit_whitening(rows, index) if zca else _fit_moments(rows, index))
    try:
        write_tensors(path, space.tensors(), {"kind": kind})
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise  # a shared cache that is read-only: fitted again each time, to the same bits
    return space


def space_path(dataset: Dataset, index: Classes | None, zca: bool) -> Path:
    """Where the cache keeps, or would keep, what is fitted to these images."""
    which = hashlib.sha256(b"all" if index is None else np.ascontiguousarray(index).tobytes()).hexdigest()[:12]
    return dataset.folder / f"space-{'zca' if zca else 'normalise'}-{which}.safetensors"


def fitting_words(dataset: Dataset, index: Classes, zca: bool) -> str:
    """What fitting the input space takes, for its progress."""
    numbers = dataset.channels * dataset.resolution**2
    if not zca or numbers <= KORNIAS or exists(space_path(dataset, index, zca)):
        return "fitting the input space"
    minutes = max(1, round(whitening_seconds(len(index), numbers) / 60))
    needed = format_bytes(whitening_bytes(len(index), numbers))
    return f"fitting the whitening once, {numbers:,} numbers an image, {needed} of memory, about {minutes} min"


def _fit_moments(rows: Rows, index: Classes) -> dict[str, Tensor]:
    channels = rows.shape[0]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(index), CHUNK):
        chunk = rows.read(index[start : start + CHUNK]).astype(np.float64) / 255
        total += chunk.sum(axis=(0, 2, 3))
        squares += (chunk**2).sum(axis=(0, 2, 3))
        count += chunk.size // channels
    mean = total / count
    # A channel that never varies is left in its place instead of divided by zero.
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    std[std < 1e-4] = 1.0
    return {"mean": torch.tensor(mean, dtype=torch.float32), "std": torch.tensor(std, dtype=torch.float32)}

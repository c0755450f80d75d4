"""Images of a split where the device can reach them: resident if they fit, else read batch by batch.

On an accelerator resident images are a copy on the device, filled piece by piece. On a CPU they are the mapped cache
file, which all processes of a host share; larger splits are read from the file.
"""

from typing import Literal

import numpy as np
import psutil
import torch
from torch import Tensor

from engine.data.dataset import Classes, Pixels
from engine.data.rows import Rows
from engine.data.space import InputSpace
from engine.runtime.mps import mps_free_bytes
from engine.runtime.transfer import to_device

SHARE = 0.4
"""Share of the free memory that real images may take."""
HOST_BYTES = 2**30
"""Memory of a CPU process that real images may take: for small ones, of which reading takes more calls a second."""
PIECE = 2**26
"""Bytes on their way to the device at once."""
CHUNK = 4096
"""Images whitened at once."""


def free_memory(device: torch.device) -> int:
    """Bytes a program could still take on the device; on the CPU, memory that only caches files counts as free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return mps_free_bytes()
    return int(psutil.virtual_memory().available)


def image_budget(device_type: str, free: int, wanted: float | Literal["auto"] = "auto") -> int:
    """Bytes that all splits of a task may take.

    Args:
        device_type: `cpu`, `cuda`, ...
        free: bytes free on the device.
        wanted: `compute.image_memory`, GB.
    """
    if wanted != "auto":
        return int(wanted * 1e9)
    share = int(SHARE * max(0, free))
    return min(HOST_BYTES, share) if device_type == "cpu" else share


def resident_bytes(size: int, budget: int, device_type: str, whitened: int = 0) -> tuple[int, int]:
    """Bytes (kept on the device, mapped from the file) for a split of `size` bytes; (0, 0): read batch by batch.

    Args:
        size: of the uint8 images.
        budget: that may be taken.
        device_type: `cpu`, `cuda`, ...
        whitened: bytes of a whitened pixel value, 0 without ZCA. Whitening a batch is a product with a D x D matrix:
            done once for all images where they fit as floats.
    """
    if whitened and size * whitened <= budget:
        return size * whitened, 0
    if size > budget:
        return 0, 0
    return (0, size) if device_type == "cpu" else (size, 0)


class ResidentImages:
    """Batches of images by index, without work per image.

    Args:
        pixels: all images of the file, uint8 `(N, C, H, W)`, possibly memory-mapped.
        index: which of them make up this split, `(n,)`.
        space: their input space, on the device.
        device: where batches are wanted.
        budget: bytes that may be taken; None for `image_budget`.
    """

    def __init__(
        self, pixels: Pixels, index: Classes, space: InputSpace, device: torch.device, budget: int | None = None
    ) -> None:
        self._shape = pixels.shape[1:]
        self._index = index
        self._space = space
        self._device = device
        budget = image_budget(device.type, free_memory(device)) if budget is None else budget
        size = len(index) * int(np.prod(self._shape))
        mean = space.tensors()["mean"]
        whitened = mean.element_size() if space.kind == "zca" else 0
        kept, mapped = resident_bytes(size, budget, device.type, whitened)
        self.taken = kept + mapped
        """Bytes of the budget."""
        self._rows = Rows(pixels, mapped=mapped > 0)
        self._pixels: Tensor | None = None
        self._encoded: Tensor | None = None
        if kept and whitened and kept == size * whitened:
            self._encoded = torch.empty((len(index), *self._shape), dtype=mean.dtype, device=device)
            for chunk in torch.arange(len(index)).split(CHUNK):
                self._encoded[chunk[0] : chunk[-1] + 1] = space.encode(self.batch(chunk))
        elif kept:
            self._pixels = self._uploaded()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self._device

    @property
    def pixels(self) -> int:
        """H x W."""
        return int(np.prod(self._shape[1:]))

    def batch(self, index: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` on the device; `index` `(B,)` counts within the split, on the host."""
        if self._pixels is not None:
            return self._pixels[to_device(index, self._device)]
        rows = torch.empty((len(index), *self._shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._rows.read_into(rows.numpy(), self._index[index.numpy()])
        return to_device(rows, self._device)

    def encoded(self, index: Tensor) -> Tensor:
        """The same images in the network's input space."""
        if self._encoded is not None:
            return self._encoded[to_device(index, self._device)]
        return self._space.encode(self.batch(index))

    def _uploaded(self) -> Tensor:
        """All images on the device, through one piece of host memory: a whole copy there would be as large as they."""
        found = torch.empty((len(self._index), *self._shape), dtype=torch.uint8, device=self._device)
        rows = max(1, PIECE // int(np.prod(self._shape)))
        piece = torch.empty(
            (min(rows, len(self._index)), *self._shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda"
        )
        for begin in range(0, len(self._index), rows):
            index = self._index[begin : begin + rows]
            self._rows.read_into(piece[: len(index)].numpy(), index)
            found[begin : begin + len(index)] = piece[: len(index)]  # waits, so that the piece can be filled again
        return found

"""Images of a split where the device can reach them: resident if they fit, else read batch by batch."""

import numpy as np
import psutil
import torch
from torch import Tensor

from engine.data.dataset import Classes, Pixels
from engine.data.space import InputSpace
from engine.runtime.mps import mps_free_bytes
from engine.runtime.transfer import to_device

SHARE = 0.4
"""Share of the free memory a split may take."""


def free_memory(device: torch.device) -> int:
    """Bytes a program could still take on the device; on the CPU, memory that only caches files counts as free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return mps_free_bytes()
    return int(psutil.virtual_memory().available)


def resident_bytes(size: int, budget: int, whitened: int = 0) -> int:
    """Bytes of memory that a split of `size` bytes is kept in; 0 where it is read batch by batch.

    Args:
        size: of the uint8 images.
        budget: that may be kept.
        whitened: bytes of a whitened pixel value, 0 without ZCA. Whitening a batch is a product with a D x D matrix:
            done once for all images where they fit as floats too.
    """
    if size > budget:
        return 0
    return size * (1 + whitened) if size * (1 + whitened) <= budget else size


class ResidentImages:
    """Batches of images by index, without work per image.

    Args:
        pixels: all images of the file, uint8 `(N, C, H, W)`, possibly memory-mapped.
        index: which of them make up this split, `(n,)`.
        space: their input space, on the device.
        device: where batches are wanted.
        budget: bytes that may be kept; None for a share of the free memory.
    """

    def __init__(
        self, pixels: Pixels, index: Classes, space: InputSpace, device: torch.device, budget: int | None = None
    ) -> None:
        self._pixels = pixels
        self._index = index
        self._space = space
        self._device = device
        budget = int(SHARE * free_memory(device)) if budget is None else budget
        size = len(index) * int(np.prod(pixels.shape[1:]))
        whitened = space.tensors()["mean"].element_size() if space.kind == "zca" else 0
        kept = resident_bytes(size, budget, whitened)
        self._resident: Tensor | None = None
        if kept or not size:
            self._resident = torch.from_numpy(np.ascontiguousarray(pixels[index])).to(device)
        self._encoded: Tensor | None = None
        if kept > size and self._resident is not None:
            parts = [space.encode(chunk) for chunk in self._resident.split(4096)]
            self._encoded = torch.cat(parts) if parts else None

    def __len__(self) -> int:
        return len(self._index)

    @property
    def pixels(self) -> int:
        """H x W."""
        return int(np.prod(self._pixels.shape[2:]))

    def batch(self, index: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` on the device; `index` `(B,)` counts within the split, on the host."""
        if self._resident is not None:
            return self._resident[to_device(index, self._device)]
        wanted = self._index[index.numpy()]
        order = np.argsort(wanted, kind="stable")  # read the file in its order, return the requested order
        rows = np.empty((len(wanted), *self._pixels.shape[1:]), dtype=np.uint8)
        rows[order] = self._pixels[wanted[order]]
        tensor = torch.from_numpy(rows)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return to_device(tensor, self._device)

    def encoded(self, index: Tensor) -> Tensor:
        """The same images in the network's input space."""
        if self._encoded is not None:
            return self._encoded[to_device(index, self._device)]
        return self._space.encode(self.batch(index))

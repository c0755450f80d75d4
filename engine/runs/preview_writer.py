"""Pictures of synthetic images: decoded to pixels, and filmed while they change."""

import io
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data import InputSpace
from engine.data.decoder import Decoder
from engine.runs.preview_frames import Frame, Pixels, TopLabels, frame_path, images_shown, thin, write_frame
from engine.storage.atomic import write_bytes

RESTING = 50
"""The film costs at most one part in this many of a run's time."""
SOONEST = 1.0
"""Least seconds between two frames."""
CHUNK = 1024
"""Images decoded at once."""
TOP = 5
"""Leading labels a frame remembers of every image."""


def to_pixels(images: Tensor, space: InputSpace) -> Pixels:
    """Images `(N, C, H, W)` of the input space as bytes `(N, H, W, C)`, clamped to what a picture can show."""
    count, channels, height, width = images.shape
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    for begin in range(0, count, CHUNK):  # decoding makes copies in floating point: of a chunk only
        decoded = space.decode(images[begin : begin + CHUNK]).clamp_(0, 1).mul_(255).round_()
        pixels[begin : begin + CHUNK] = decoded.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG."""
    write_bytes(path, png_bytes(picture), tidy=True)


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


class PreviewWriter:
    """Films a run's images into a folder: a lasting frame at every checkpoint, quick ones between as time allows.

    Which quick frames there are depends on the clock; they are pictures and no number depends on them.

    Args:
        folder: where the frames go.
        space: of the images.
        decoder: of the images.
        classes: K.
        ipc: images per class.
        side: H = W, pixels.
    """

    def __init__(self, folder: Path, space: InputSpace, decoder: Decoder, classes: int, ipc: int, side: int) -> None:
        self._folder = folder
        self._space = space
        self._decoder = decoder
        self._shown = images_shown(classes, ipc, side)
        self._index = torch.tensor([k * ipc + i for k in range(classes) for i in range(self._shown)])
        self._next = 0.0

    def due(self) -> bool:
        """Whether it is time for a quick frame."""
        return time.monotonic() >= self._next

    def write(self, iteration: int, images: Tensor, labels: Tensor | None, *, lasting: bool) -> None:
        """Take a frame of images `(N, C, H, W)` as they are stored and their soft labels `(N, K)`, if they have any."""
        begun = time.monotonic()
        index = self._index.to(images.device)
        pixels = to_pixels(self._decoder.picture(images[index]), self._space)
        top = None if labels is None else _leading(labels[index])
        frame = Frame(iteration, pixels, self._shown, top)
        write_frame(frame_path(self._folder, iteration), frame, lasting=lasting)
        now = time.monotonic()
        self._next = now + max(SOONEST, RESTING * (now - begun))

    def thin(self, keep: Collection[int]) -> None:
        """Keep the film within its bounds."""
        thin(self._folder, keep)


def _leading(labels: Tensor) -> TopLabels:
    best = labels.topk(min(TOP, labels.shape[1]), dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [list(zip(classes, values, strict=True)) for classes, values in rows]

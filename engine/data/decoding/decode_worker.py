"""Decoding files: a function, and a process that does nothing else. Python decodes in one thread at a time.

`serve` answers on a pipe until its other end is closed, by whatever ends the process that started it. This module
imports no PyTorch, and the process reads no file.
"""

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.data.decoding import pictures
from engine.data.decoding.pictures import (
    BAD_FILE,
    GREY_MODES,
    PixelsError,
    Target,
    header_of_array,
    parse_picture,
    to_square,
)
from engine.errors import DataError

Item = tuple[str, Any]
"""A name for messages, and what it names: the bytes of a picture file, the error of reading it, or, in this process, a
function that returns the image."""


@dataclass(frozen=True)
class Bad:
    """An image that cannot be used."""

    position: int
    """Its place among the images it came with."""
    message: str
    hint: str


@dataclass(frozen=True)
class Decoded:
    """What became of some images."""

    pixels: npt.NDArray[np.uint8]
    """`(n, C, side, side)`, of the good ones."""
    bad: tuple[Bad, ...]
    colour: str
    """Name of the first image in colour, where grey ones were expected; empty if there is none."""
    resized: int
    """Images that had another size."""
    not_square: int


def decode_items(items: Iterable[Item], target: Target) -> Decoded:
    """Decode images one after the other."""
    squares: list[npt.NDArray[np.uint8]] = []
    bad: list[Bad] = []
    colour = ""
    resized = not_square = 0
    for position, (name, value) in enumerate(items):
        try:
            if isinstance(value, DataError):
                raise value
            image = value() if callable(value) else parse_picture(value, name)
            mode, (width, height), _ = header_of_array(image)
            squares.append(to_square(image, target.channels, target.resolution, target.fit, target.value_range))
        except DataError as error:
            bad.append(Bad(position, error.message, error.hint))
            continue
        except PixelsError as error:
            bad.append(Bad(position, f"{name} {error}.", error.hint))
            continue
        except (ValueError, OSError, TypeError) as error:  # decoded, but of a mode or size that cannot be made square
            bad.append(Bad(position, f"{name} cannot be used ({error}).", BAD_FILE))
            continue
        if target.channels == 1 and mode not in GREY_MODES:
            colour = colour or name
        resized += (width, height) != (target.resolution, target.resolution)
        not_square += width != height
    shape = (target.channels, target.resolution, target.resolution)
    pixels = np.ascontiguousarray(np.stack(squares)) if squares else np.empty((0, *shape), dtype=np.uint8)
    return Decoded(pixels, tuple(bad), colour, resized, not_square)


class _OneLarge:
    """`pictures.one_large` for processes that share a descriptor; one that dies releases it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def serve(descriptor: int, lock: int) -> None:
    """Decode what comes through a pipe, after the `Target` that comes first.

    Args:
        descriptor: of this end of the pipe.
        lock: descriptor of a file that all such processes share, see `_OneLarge`.
    """
    pipe = Connection(descriptor)
    pictures.one_large = _OneLarge(lock)
    target = pipe.recv()
    while True:
        try:
            found = decode_items(pipe.recv(), target)
            pipe.send((found.bad, found.colour, found.resized, found.not_square, found.pixels.shape))
            pipe.send_bytes(found.pixels.data.cast("B") if found.pixels.size else b"")
        except (EOFError, ConnectionError):
            return

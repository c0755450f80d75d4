"""The preview frames of a run, for screens: which iterations have one, and their images, a few kept in memory."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import CorruptFileError, UnreadableFileError
from engine.runs.preview_frames import Frame, frame_iterations, frame_path, read_frame
from engine.runs.run import Run
from engine.storage.reading import status_of
from engine.storage.untrusted import whole_number

SEEN = "as networks see them"
KEPT = 24
"""Frames in memory; others are read again when they are shown."""


class Film:
    """Frames of one run, read when they are shown; damaged ones are left out.

    Args:
        run: the run.
        again: whether it is looked at again and again, so that what cannot be read now may be left out until then.
            Else `look` and `frame` raise UnreadableFileError.
    """

    def __init__(self, run: Run, *, again: bool = True) -> None:
        self.run = run
        self._again = again
        self.iterations: list[int] = []
        self._bad: set[int] = set()
        self._frames: OrderedDict[int, tuple[int, Frame]] = OrderedDict()
        self._seen = 0

    def look(self) -> bool:
        """List the folder again if it changed; whether it did."""
        try:
            status = status_of(self.run.film)
            changed = status.st_mtime_ns if status else 0
            if changed == self._seen:
                return False
            self.iterations = [i for i in frame_iterations(self.run.film) if i not in self._bad]
        except UnreadableFileError:
            if self._again:
                return False
            raise
        self._seen = changed
        return True

    def frame(self, iteration: int) -> Frame | None:
        """The frame of an iteration; None if it is gone or damaged."""
        path = frame_path(self.run.film, iteration)
        try:
            status = status_of(path)
            written = status.st_mtime_ns if status else 0
            known = self._frames.get(iteration)
            if known is not None and known[0] == written:
                self._frames.move_to_end(iteration)
                return known[1]
            frame = read_frame(path)
        except UnreadableFileError:
            if self._again:
                return None
            raise
        except (OSError, CorruptFileError):
            self._bad.add(iteration)
            self.iterations = [i for i in self.iterations if i != iteration]
            return None
        self._frames[iteration] = (written, frame)
        while len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        return frame

    def latest(self) -> Frame | None:
        """The newest frame that can be read."""
        for iteration in reversed(list(self.iterations)):
            frame = self.frame(iteration)
            if frame is not None:
                return frame
        return None


@lru_cache(4)
def decoded_frame(frame: Frame, factor: int) -> Frame:
    """What networks see of pictures that hold `factor` x `factor` smaller ones: each cut out and enlarged, in rows."""
    side, views = frame.pixels.shape[1], factor**2
    if side % factor:
        return frame  # not a frame of these settings
    small = side // factor
    tiles = frame.pixels.reshape(-1, factor, small, factor, small, frame.pixels.shape[3]).swapaxes(2, 3)
    tiles = tiles.reshape(-1, small, small, frame.pixels.shape[3])
    images = (Image.fromarray(tile[:, :, 0] if tile.shape[2] == 1 else tile) for tile in tiles)
    seen = [np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in images]
    top = None if frame.top is None else [labels for labels in frame.top for _ in range(views)]
    pixels = np.stack(seen).reshape(len(seen), side, side, -1)
    return replace(frame, pixels=pixels, shown=frame.shown * views, top=top)


def formation_of(settings: Mapping[str, Any]) -> int:
    """f of a run by its flat settings; 1 for those of older versions, and where another decoder is used."""
    factor = settings.get("distill.formation", 1)
    plain = settings.get("distill.decoder", "formation") == "formation" and whole_number(factor)
    return max(1, factor) if plain else 1

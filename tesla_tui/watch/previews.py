"""The preview frames of a run, for screens: which iterations have one, and their images, a few kept in memory."""

from collections import OrderedDict

from engine.errors import CorruptFileError
from engine.runs.preview_frames import Frame, frame_iterations, frame_path, read_frame
from engine.runs.run import Run

KEPT = 24
"""Frames in memory; others are read again when they are shown."""


class Film:
    """Frames of one run, read when they are shown; damaged ones are left out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.iterations: list[int] = []
        self._bad: set[int] = set()
        self._frames: OrderedDict[int, tuple[int, Frame]] = OrderedDict()
        self._seen = 0

    def look(self) -> bool:
        """List the folder again if it changed; whether it did."""
        try:
            changed = self.run.film.stat().st_mtime_ns
        except OSError:
            changed = 0
        if changed == self._seen:
            return False
        self._seen = changed
        self.iterations = [i for i in frame_iterations(self.run.film) if i not in self._bad]
        return True

    def frame(self, iteration: int) -> Frame | None:
        """The frame of an iteration; None if it is gone or damaged."""
        path = frame_path(self.run.film, iteration)
        try:
            written = path.stat().st_mtime_ns
            known = self._frames.get(iteration)
            if known is not None and known[0] == written:
                self._frames.move_to_end(iteration)
                return known[1]
            frame = read_frame(path)
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

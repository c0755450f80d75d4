"""Time left, from how fast something went lately. Time that is spent compiling says nothing about the rest."""

import time

from engine.events import COMPILING


def is_compiling(detail: str) -> bool:
    """Whether a stage's progress has this detail because something is being compiled."""
    return detail.startswith(COMPILING)


class Clock:
    """Time left of a stage, from the pace since it was first seen and, more weight, lately."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []
        self._total = 0.0

    def left(self, done: float, total: float, detail: str = "") -> float | None:
        """Seconds left when `done` of `total` is reached now; None while that is not known.

        Args:
            done: in any unit.
            total: in the same.
            detail: of the progress: the pace counts from the end of compiling.
        """
        now = time.monotonic()
        if is_compiling(detail):
            self._marks = []
            return None
        if total != self._total or (self._marks and done < self._marks[-1][1]):  # something else is counted now
            self._total, self._marks = total, []
        if not self._marks or now - self._marks[-1][0] > 0.5:
            self._marks.append((now, done))
            self._marks = self._marks[-120:]
        (then, before) = self._marks[0]
        if done <= before or now - then < 1:
            return None
        return (total - done) * (now - then) / (done - before)

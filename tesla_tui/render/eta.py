"""Time left, from how fast something went lately."""

import time


class Clock:
    """Time left of a stage, from the pace since it was first seen and, more weight, lately."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []
        self._total = 0.0

    def left(self, done: float, total: float) -> float | None:
        """Seconds left when `done` of `total` is reached now."""
        now = time.monotonic()
        if total != self._total or (self._marks and done < self._marks[-1][1]):  # something else is counted now
            self._total, self._marks = total, []
        if not self._marks or now - self._marks[-1][0] > 0.5:
            self._marks.append((now, done))
            self._marks = self._marks[-120:]
        (then, before) = self._marks[0]
        if done <= before or now - then < 1:
            return None
        return (total - done) * (now - then) / (done - before)

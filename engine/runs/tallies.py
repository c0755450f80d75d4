"""What a history counts: iterations at which something happened, and what was spent."""

from collections import deque
from dataclasses import dataclass, field

from engine.runs.series import Sample

MOST_MARKS = 10_000
"""Iterations whose numbers are known. After going back over more than that, some stay counted."""


@dataclass
class Costs:
    """What was spent, in seconds; repeated work counts again."""

    teachers: float = 0.0
    teacher_epochs: int = 0
    distillation: float = 0.0
    iterations: Sample = field(default_factory=Sample)
    """Seconds of every iteration."""
    evaluation: float = 0.0
    evaluated: int = 0
    """Networks trained for evaluations."""
    peak_bytes: int | None = None
    """Greatest resident memory of a driver that ended by itself; None if none said."""
    peak_device_bytes: int | None = None
    """Most that PyTorch took of its CUDA device."""

    def peaked(self, process: int | None, device: int | None) -> None:
        """Count the peaks of a driver, bytes."""
        self.peak_bytes = max((peak for peak in (self.peak_bytes, process) if peak is not None), default=None)
        both = (self.peak_device_bytes, device)
        self.peak_device_bytes = max((peak for peak in both if peak is not None), default=None)


class Marks:
    """Iterations at which something happened, ascending: counted, and no longer where the run goes back."""

    def __init__(self) -> None:
        self._older = 0
        self._at: deque[int] = deque()

    def __len__(self) -> int:
        return self._older + len(self._at)

    def add(self, iteration: int) -> None:
        """It happened again."""
        self._at.append(iteration)
        if len(self._at) > MOST_MARKS:
            self._at.popleft()
            self._older += 1

    def cut(self, after: int) -> None:
        """Forget what happened after that iteration."""
        while self._at and self._at[-1] > after:
            self._at.pop()
        if after <= 0:
            self._older = 0

"""A network whose answers go wrong on cue: `network.name = tests.engine.faulty:network`."""

import os
import time
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.events import Event, IterationDone, IterationSkipped, RunStarted

GATE = "TESLA_TEST_GATE"
"""Environment variable with a path: while that file exists, a forward pass waits, and says so in `<path>.waits`. If it
has a number in it, so many passes of this process go by before."""

_passes = 0


def wait_at_gate() -> None:
    """Make a step as long as a test needs it, on a machine of any speed."""
    global _passes
    _passes += 1
    gate = os.environ.get(GATE)
    while gate and _passes > passes_before(Path(gate)):
        Path(gate).with_suffix(".waits").touch()
        time.sleep(0.02)


def passes_before(gate: Path) -> float:
    """How many forward passes the gate lets by; endless if it is not there."""
    try:
        return int(gate.read_text() or 0)
    except FileNotFoundError:
        return float("inf")


class Cue:
    """Says when the network's answers are spoilt, and by what."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.most_images = 0
        """A forward pass over more images than this is out of memory; 0 for none."""

    def follow(self, bad: Collection[int], factor: float = float("nan")) -> "CueFollower":
        """Spoil the iterations `bad` (1-based) of a run whose every event is shown to the result."""
        return CueFollower(self, bad, factor)


class CueFollower:
    """Sets the cue for the iteration that comes next."""

    def __init__(self, cue: Cue, bad: Collection[int], factor: float) -> None:
        self._cue, self._bad, self._factor = cue, bad, factor

    def __call__(self, event: Event) -> bool:
        if isinstance(event, RunStarted):
            self._next((event.resumed_from or 0) + 1)
        elif isinstance(event, IterationDone | IterationSkipped):
            self._next(event.iteration + 1)
        return False

    def _next(self, iteration: int) -> None:
        self._cue.factor = self._factor if iteration in self._bad else 1.0


CUE = Cue()


class Faulty(nn.Module):
    """A small perceptron that obeys the cue."""

    def __init__(self, channels: int, classes: int, resolution: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * resolution**2, width), nn.ReLU(), nn.Linear(width, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        wait_at_gate()
        if CUE.most_images and len(images) > CUE.most_images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")
        logits: Tensor = self.layers(images) * CUE.factor
        return logits


def network(channels: int, classes: int, resolution: int, width: int = 4, depth: int | None = None) -> Faulty:
    """As the registry calls it."""
    return Faulty(channels, classes, resolution, width)


def batch_network(channels: int, classes: int, resolution: int, width: int = 4, depth: int | None = None) -> Faulty:
    """The same with batch statistics."""
    model = Faulty(channels, classes, resolution, width)
    model.layers.insert(2, nn.BatchNorm1d(width, track_running_stats=False))
    return model

"""What a plan says: plain data, the same on screen and as JSON."""

from dataclasses import dataclass
from typing import Literal

How = Literal["measured", "extrapolated", "computed"]
"""measured: just now, at the run's own size. extrapolated: measured smaller, scaled up. computed: sizes added up."""

Where = Literal["device", "host"]
"""On a CPU the two are one, and it is `device`."""

Stage = Literal["always", "teachers", "distillation", "evaluation"]


@dataclass(frozen=True)
class Limits:
    """What is available, bytes; None for what is free on this machine now."""

    memory: int | None = None
    """Of the device (on a CPU, of the host)."""
    disk: int | None = None


@dataclass(frozen=True)
class Part:
    """A use of memory."""

    name: str
    bytes: int
    where: Where
    stage: Stage
    """When it is in use. What distillation holds between two iterations is in use in its evaluations as well."""
    how: How
    between: bool = False
    """Whether distillation holds it between two iterations."""
    note: str = ""


@dataclass(frozen=True)
class Peak:
    """The most memory in use at once."""

    where: Where
    stage: Stage
    """When that is."""
    bytes: int
    free: int
    """What there is."""


@dataclass(frozen=True)
class DiskUse:
    """Files of a kind."""

    name: str
    bytes: int
    """Still to be written."""
    place: Literal["workspace", "cache"]
    note: str = ""


@dataclass(frozen=True)
class DiskRoom:
    """What a file system must take, and has free."""

    place: str
    bytes: int
    free: int


@dataclass(frozen=True)
class Duration:
    """A stage's time."""

    name: str
    seconds: float
    how: How
    note: str = ""


@dataclass(frozen=True)
class Shortage:
    """Something that does not fit, and what would make it fit."""

    message: str
    hint: str


@dataclass(frozen=True)
class Plan:
    """Everything a run is expected to take from where it is now."""

    run: str
    ipc: int
    dataset: str
    origin: str
    """How the dataset's sizes are known."""
    images: int
    """N, synthetic images."""
    views: int
    """Images that a network sees of each."""
    parameters: int
    """P."""
    device: str
    calculated: str
    """For a machine that is not there: what times and memory are calculated from; empty for this machine."""
    compiled: bool
    store: str
    """Where the student's parameters are kept, resolved; empty where the gradient needs none."""
    seconds_per_step: float
    """Of a matching step; 0 for methods that have none."""
    seconds_per_iteration: float
    iterations_left: int
    teachers_left: int
    memory: tuple[Part, ...]
    peaks: tuple[Peak, ...]
    disk: tuple[DiskUse, ...]
    room: tuple[DiskRoom, ...]
    time: tuple[Duration, ...]
    seconds: float
    """All stages together."""
    measuring_seconds: float
    """What the measurement took."""
    shortages: tuple[Shortage, ...]

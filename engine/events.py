"""The typed events that every stage yields; the journal is a list of them, one JSON object a line.

An event is a fact in the past tense or a measurement. `journaled` events are facts worth keeping; the others only
move a progress bar and come often (every training batch, every matching step). To add one, define its class here.
"""

import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from engine.storage.untrusted import typed

Result = TypeVar("Result")

SCHEMA = 1
"""Version of the journal's lines."""

COMPILING = "compiling"
"""What a notice is `about` when something is compiled in the iteration that comes next, and how the detail of a stage's
progress begins while it is."""


KINDS: "dict[str, type[Event]]" = {}
"""Every event by its name in the journal. Defining a class is enough to be read back."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. A subclass is a dataclass of JSON values; its name is its kind, and never changes.

    Raises:
        TypeError: when a subclass is defined with the name of another.
    """

    journaled: ClassVar[bool] = True
    lasting: ClassVar[bool] = False
    """Whether the journal is forced to the device after it: a power cut costs what came after the last such event."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__ in KINDS:
            raise TypeError(f"There are two events named {cls.__name__}: {KINDS[cls.__name__].__module__} has one.")
        KINDS[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """Name of the event in the journal."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """How far the current stage is. Never journaled."""

    journaled: ClassVar[bool] = False
    stage: str
    """`data`, `teachers`, `distillation`, `evaluation`."""
    done: float
    total: float
    unit: str
    """What `done` and `total` count, in the plural: `images`, `epochs`, `iterations`."""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A driver took the run's lock."""

    lasting: ClassVar[bool] = True
    run: str
    resumed_from: int | None
    """Iteration of the checkpoint it resumes from; None for a fresh run."""
    settings: dict[str, Any]
    """Effective settings, flat: dotted key to value."""
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunStopped(Event):
    """The driver was asked to stop and saved its state."""

    lasting: ClassVar[bool] = True
    reason: str
    iteration: int | None
    peak_bytes: int | None = None
    """Greatest resident memory of the driver since it started; None in older journals."""
    peak_device_bytes: int | None = None
    """Most that PyTorch took of its CUDA device; None without one."""


@dataclass(frozen=True, kw_only=True)
class RunPaused(Event):
    """The driver paused because the user asked; its state is in memory, and it holds the lock."""


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """The driver continues after a pause."""

    seconds: float
    """How long it was paused."""


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The driver ended on an error."""

    lasting: ClassVar[bool] = True
    message: str


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """All requested work is done."""

    lasting: ClassVar[bool] = True
    seconds: float
    outcome: str = ""
    """What was gained over random real images, as text."""
    peak_bytes: int | None = None
    """As in `RunStopped`."""
    peak_device_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage has work to do and starts, or resumes."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """A stage is complete."""

    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DataReady(Event):
    """The dataset is decoded and open."""

    name: str
    classes: int
    channels: int
    resolution: int
    train: int
    """Images the teachers train on."""
    holdout: int
    """Training images held out to select the checkpoint."""
    test: int
    names: list[str] = field(default_factory=list)
    """Names of the classes, in order."""
    fingerprint: str = ""
    """sha256 of the decoded images and labels; empty in older journals."""


@dataclass(frozen=True, kw_only=True)
class TeachersPlanned(Event):
    """What the teacher stage will do."""

    buffer: str
    count: int
    epochs: int
    """Epochs a trajectory is trained for."""
    epochs_asked: int
    """`teachers.epochs`; this run can never read those past `epochs`."""
    missing: int
    """Trajectories not on disk yet."""
    bytes: int
    """Disk the whole buffer takes."""
    gradients: int = 1
    """That a step costs: 2 where it is sharpness-aware."""


@dataclass(frozen=True, kw_only=True)
class TeacherEpoch(Event):
    """One epoch of one trajectory."""

    trajectory: int
    epoch: int
    epochs: int
    loss: float
    """Mean training cross-entropy under augmentation."""
    accuracy: float
    """Training accuracy under augmentation, 0..1."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TeacherPublished(Event):
    """A trajectory is whole on disk."""

    trajectory: int
    path: str


@dataclass(frozen=True, kw_only=True)
class TeachersMeasured(Event):
    """The accuracy of trained teachers, without augmentation."""

    buffer: str
    split: str
    """`holdout`, or `train` where nothing is held out."""
    images: int
    """How many images of it."""
    guessing: float
    """Share of their most frequent class, 0..1: the accuracy of always answering it."""
    epoch: int
    """The snapshot that was measured."""
    steps: int
    """SGD steps of an epoch."""
    count: int
    """Trajectories in the buffer."""
    mean: float
    """Accuracy of the measured ones, 0..1."""
    std: float
    """Sample standard deviation (n - 1) over them; 0 for a single one."""
    accuracies: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class IterationDone(Event):
    """One outer iteration: the images were updated."""

    iteration: int
    """1-based: how many iterations are complete."""
    iterations: int
    loss: float
    """Matching loss before the update."""
    student_lr: float
    """After the update."""
    gradient_norm: float
    """Euclidean norm of dL/dimages."""
    student_lr_gradient: float | None
    """None where student_lr is not learned."""
    trajectory: int | None
    """None, as the next, where no trajectory is matched."""
    start_epoch: int | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class IterationSkipped(Event):
    """The numbers were bad; nothing was updated."""

    iteration: int
    reason: str
    loss: float | None
    consecutive: int


@dataclass(frozen=True, kw_only=True)
class RunRecovered(Event):
    """Too many skips in a row, or the loss drifted upwards: momentum was cleared and student_lr halved."""

    iteration: int
    student_lr: float
    recoveries: int
    """Since the last good stretch."""
    rolled_back_to: int | None = None
    """Iteration of the checkpoint whose images and labels were restored; None if they stayed."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is whole on disk."""

    lasting: ClassVar[bool] = True
    iteration: int
    path: str


@dataclass(frozen=True, kw_only=True)
class EvaluationDone(Event):
    """Fresh networks were trained on a small set and measured on real images."""

    iteration: int
    subject: str
    """`distilled` or `random` (random real images at the same IPC)."""
    split: str
    """`holdout` or `test`."""
    network: str
    mean: float
    """Accuracy, 0..1."""
    std: float
    """Sample standard deviation (n - 1) over these networks of one run; 0 for a single one. Published code mostly
    divides by n (numpy's default): at n = 5, its values are smaller by a factor of 1.118."""
    accuracies: list[float] = field(default_factory=list)
    seconds: float
    images: int = 0
    """How many images were measured; 0 if not known (results of older versions)."""
    guessing: float | None = None
    """Share of their most frequent class, 0..1: the accuracy of always answering it. None if not known."""
    formation: int = 1
    """f: each image that was trained on is one of f x f in a stored one."""
    lr: float | None = None
    """Learning rate that was set or chosen; None where the set's own was used, and for results of older versions."""


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something the user should know; `level` is `info` or `warning`."""

    level: str
    message: str
    about: str = ""
    """What it is about, for one that is given once in the life of a run; or `COMPILING`."""


def stage_events(stage: str, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
    """The events of a stage between `StageStarted` and `StageFinished`."""
    begun = time.monotonic()
    yield StageStarted(stage=stage)
    yield from events
    yield StageFinished(stage=stage, seconds=time.monotonic() - begun)


def with_progress(waiting: Generator[float, None, Result], at: Progress, what: str) -> Generator[Event, None, Result]:
    """Wait for a generator of elapsed seconds, reporting `at` with what is waited for and how long; its result."""
    try:
        while True:
            seconds = next(waiting)
            yield replace(at, detail=f"{what}, {seconds:.0f} s")
    except StopIteration as end:
        found: Result = end.value
        return found
    finally:
        waiting.close()


def share_done(at: Progress, share: float) -> Progress:
    """Progress with that share of the next unit done; a unit is whole only when it is reported."""
    return replace(at, done=at.done + min(share, 0.999))


def event_to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object, without the journal's own fields."""
    return {"kind": event.kind, **asdict(event)}


def event_from_json(value: dict[str, Any]) -> Event | None:
    """The event in a journal line; None for a kind this version does not know, or if a field has the wrong type.

    Fields it does not know are dropped, so that an older reader can follow a newer writer.
    """
    kind = value.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        return None
    try:
        return typed(cls, value)
    except ValueError:
        return None

"""What a method of distillation offers the rest of the program: session, checkpoints, evaluation, export, screens.

A method is a few functions of the task; it draws from counted generators only, so that what it does in an iteration
is a function of the state and the iteration's number. `engine/methods/registry.py` lists them all.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from engine.events import Event, Progress
from engine.settings import EffectiveSettings, method_traits
from engine.settings.facts import check_reads, is_read
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer


class State(Protocol):
    """What a method carries from one iteration to the next; a checkpoint holds just its tensors and counters."""

    iteration: int
    """Iterations complete."""
    labels: Tensor | None
    """Soft labels `(N, K)` for pictures; None while labels are hard."""

    @property
    def images(self) -> Tensor:
        """`(N, C, H, W)` in the input space, ordered by class."""

    @property
    def student_lr(self) -> Tensor:
        """Step size for training on the images, a scalar."""

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint file."""

    def counters(self) -> dict[str, Any]:
        """For a checkpoint's record."""

    def count(self, counters: Mapping[str, Any]) -> None:
        """Take the values from `counters` of another state."""

    @property
    def good(self) -> int:
        """Iteration of a checkpoint that is to be kept, to go back to; 0 if there is none besides the first."""


LoadCheckpoint = Callable[[int], "tuple[dict[str, Tensor], dict[str, Any]] | None"]
"""Tensors and record of the newest whole checkpoint that is not after an iteration."""

Step = Callable[[Any], Generator[Event, None, None]]
"""One iteration of a state: it updates the state and adds one to its `iteration`, or skips the update and says why.

It ends in an `IterationDone` or `IterationSkipped`. The state changes only once the iteration is whole, so that closing
the generator leaves it as it was after the last one."""

MakeStep = Callable[[Task, TeacherBuffer, LoadCheckpoint | None], Step]
InitState = Callable[[Task, TeacherBuffer], Generator[Event, None, Any]]
ExportLabels = Callable[[Task, TeacherBuffer, Any, Progress], Generator[Event, None, Tensor]]


@dataclass(frozen=True)
class Method:
    """A method of distillation, or of selection: its state, and the step that updates it."""

    name: str
    """As `distill.method` spells it."""
    init_state: InitState
    """The state before iteration 1. The teachers are trained by then."""
    restore_state: Callable[[dict[str, Tensor], dict[str, Any], Task], State]
    """The state in a checkpoint."""
    make_step: MakeStep
    """The step of one process, with whatever it keeps between iterations that no checkpoint needs (compiled functions,
    buffers). The last argument loads a checkpoint to roll back to, for methods that do."""
    export_labels: ExportLabels | None
    """Labels `(N, K)` that go with the images; progress is reported as it advances. None where the images are not a
    small set: networks are then trained on all training images."""
    reads: tuple[str, ...]
    """Settings it reads of those that only some methods read (`Affects.by_method`): keys, or sections with a final
    dot."""
    shares: bool = False
    """Whether several processes can share its iterations."""

    def __post_init__(self) -> None:
        check_reads(self.reads)

    @property
    def title(self) -> str:
        """A title for people, with its source."""
        return method_traits(self.name).title


def immediate(make: Callable[[Task], Any]) -> Callable[..., Generator[Event, None, Any]]:
    """A function of the task alone as a stage that has nothing to report."""

    def stage(task: Task, *others: object) -> Generator[Event, None, Any]:
        yield from ()
        return make(task)

    return stage


def no_step(task: Task, buffer: TeacherBuffer, load_checkpoint: LoadCheckpoint | None) -> Step:
    """For methods that make their set at once (`distill.iterations = 0`)."""

    def step(state: State) -> Generator[Event, None, None]:
        raise ValueError(f"{task.settings.distill.method} has no iterations.")

    return step


def unread(method: Method, effective: EffectiveSettings) -> list[str]:
    """Keys that the user has set (in tesla.toml or on the command line) and this method does not read."""
    chosen = [key for key, origin in effective.origins.items() if origin.startswith(("tesla.toml", "command line"))]
    return [key for key in chosen if not is_read(key, method.reads)]

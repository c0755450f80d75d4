"""What a method of distillation is to everything around it: session, checkpoints, evaluation, export, screens.

A method is a few functions of the task; it draws from counted generators only, so that what it does in an iteration
is a function of the state and the iteration's number. `engine/methods/registry.py` lists them all.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from engine.events import Event, Progress
from engine.settings import EffectiveSettings, method_traits
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
        """Take over what `counters` of another state says."""

    @property
    def good(self) -> int:
        """Iteration of a checkpoint that is to be kept, to go back to; 0 if there is none besides the first."""


Earlier = Callable[[int], "tuple[dict[str, Tensor], dict[str, Any]] | None"]
"""Tensors and record of the newest whole checkpoint that is not after an iteration."""

Iterate = Callable[[Task, TeacherBuffer, Any, Earlier | None], Generator[Event, None, None]]
ShippedLabels = Callable[[Task, TeacherBuffer, Any], Tensor]
ShippingLabels = Callable[[Task, TeacherBuffer, Any, Progress], Generator[Event, None, Tensor]]


@dataclass(frozen=True)
class Method:
    """A method of distillation, or of selection."""

    name: str
    """As `distill.method` spells it."""
    initial_state: Callable[[Task], State]
    """The state before iteration 1."""
    restored_state: Callable[[dict[str, Tensor], dict[str, Any], Task], State]
    """The state in a checkpoint."""
    iterate: Iterate | None
    """Updates the state until `distill.iterations` are done. Closing the generator stops within one step, and leaves
    the state as it was after the last whole iteration. The last argument gives a checkpoint to go back to, for methods
    that do. None where the set is made at once."""
    shipped_labels: ShippedLabels | None
    """Labels `(N, K)` that go with the images. None where the images are no small set: networks are trained on all
    training images then."""
    reads: tuple[str, ...]
    """Settings it reads of those that not every method reads: keys, or sections with a final dot."""
    shares: bool = False
    """Whether several processes can share its iterations."""
    shipping_labels: ShippingLabels | None = None
    """As `shipped_labels`, telling how far it is, where that takes long."""
    begin: Callable[[Task, TeacherBuffer], Generator[Event, None, State]] | None = None
    """As `initial_state`, where teachers have a say in it: their buffer is there by then."""

    @property
    def title(self) -> str:
        """In words, with its source."""
        return method_traits(self.name).title


def beginning(method: Method, task: Task, buffer: TeacherBuffer) -> Generator[Event, None, State]:
    """The state before iteration 1, once the teachers are trained."""
    if method.begin is not None:
        return (yield from method.begin(task, buffer))
    return method.initial_state(task)


def shipping(
    method: Method, task: Task, buffer: TeacherBuffer, state: State, at: Progress
) -> Generator[Event, None, Tensor]:
    """The labels `(N, K)` that go with the images of a state; `at` is told again as it gets on.

    Raises:
        ValueError: a method that makes no small set.
    """
    if method.shipping_labels is not None:
        return (yield from method.shipping_labels(task, buffer, state, at))
    if method.shipped_labels is None:
        raise ValueError(f"{method.name} makes no small set.")
    return method.shipped_labels(task, buffer, state)


EVERY_METHOD = ("distill.method", "distill.ipc", "distill.iterations", "distill.checkpoint_every", "distill.keep")
"""Settings of `distill` that every method reads."""

OF_METHODS = ("distill.", "labels.", "teachers.", "peers.")
"""Sections whose settings only some methods read."""


def unread(method: Method, effective: EffectiveSettings) -> list[str]:
    """Keys that a person has set (in tesla.toml or on the command line) and this method does not read."""
    chosen = [key for key, origin in effective.origins.items() if origin.startswith(("tesla.toml", "command line"))]
    read = (*EVERY_METHOD, *method.reads)
    return [key for key in chosen if key.startswith(OF_METHODS) and not key.startswith(read)]

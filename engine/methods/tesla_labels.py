"""Labels of trajectory matching: those a student sees, and those that go with an exported set."""

from collections.abc import Generator

from torch import Tensor

from engine.errors import CorruptFileError
from engine.events import Event, Progress
from engine.methods.draws import draw_iteration
from engine.methods.tesla_state import DistillState
from engine.runtime.generators import map_events
from engine.training import labels as label_rules
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

MOST_SHIP = 100
"""Snapshots whose labels are averaged for a dataset with `target` or `last` labels."""


def fixed_labels(task: Task, state: DistillState) -> Tensor:
    """Hard or learned labels `(N, K)` as students see them: probabilities, or the raw values."""
    if state.logits is not None:
        return state.logits if label_rules.are_raw(task.settings) else state.logits.softmax(dim=1)
    index = label_rules.class_index(task.classes, task.settings.distill.ipc, task.device)
    return label_rules.hard_labels(index, task.classes, task.dtype)


def export_labels(
    task: Task, buffer: TeacherBuffer, state: DistillState, at: Progress
) -> Generator[Event, None, Tensor]:
    """The labels `(N, K)` that go with the images of this state, a function of the state and the buffer alone.

    hard, learned, given: as they are (raw probabilities: the nearest ones). target, last: by default the mean over all
    teachers and all target epochs an iteration can draw (evenly thinned to at most 100 snapshots); with
    `labels.ship = last-iteration`, the labels of the teacher that the last iteration drew, as published code does.

    Several ranks share the work: all of them call this, with the same state.

    Args:
        task: of the run.
        buffer: its teachers.
        state: whose labels.
        at: progress of the stage, reported again as it advances.
    """
    settings = task.settings
    kind = settings.labels.kind
    if kind == "given":
        if state.labels is None:
            raise CorruptFileError("The checkpoint of an imported set has no labels.", "Import it again.")
        return state.labels
    if kind in ("hard", "learned"):
        labels = fixed_labels(task, state)
        return label_rules.nearest_probabilities(labels) if label_rules.are_raw(settings) else labels
    if settings.labels.ship == "last-iteration":
        draw = draw_iteration(task, max(state.iteration - 1, 0))
        epoch = settings.teachers.epochs if kind == "last" else draw.start_epoch + settings.distill.teacher_epochs
        pairs = [(draw.trajectory, epoch)]
    else:
        epochs = [settings.teachers.epochs] if kind == "last" else settings.target_epochs
        every = [(trajectory, epoch) for epoch in epochs for trajectory in range(settings.teachers.count)]
        count = min(len(every), MOST_SHIP)
        pairs = [every[i * len(every) // count] for i in range(count)]
    thetas = (buffer.read(trajectory, epoch)[0] for trajectory, epoch in pairs)
    mean = label_rules.mean_labels(task.flat_network(), thetas, state.images, task.ranks)
    return (yield from map_events(mean, lambda _: at))

"""`dsa`, differentiable siamese augmentation (Zhao & Bilen, ICML 2021): `dc` with augmented batches.

A real and a synthetic batch that are compared have the same augmentation, with the same parameters for all of their
images (siamese); in the inner loops, where nothing is compared, every image has parameters of its own.
"""

from collections.abc import Generator
from functools import partial

from engine.data.augment import draw_augment
from engine.events import Event
from engine.methods.dc import READS, propose
from engine.methods.dm import initial_state
from engine.methods.method import Earlier, Method
from engine.methods.peer_loop import iterated
from engine.methods.peer_state import PeerState, hard, restored_state
from engine.methods.siamese import Augmentation, siamese
from engine.runtime.rng import counted_generator
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer


def batch_augment(task: Task, count: int, *counters: int) -> Augmentation:
    """One operation for `count` images, parameters by image."""
    generator = counted_generator(task.settings.seed, "dsa-train-augment", *counters)
    return draw_augment(generator, task.settings.augment.ops, (count, *task.image_shape), task.device)


def iterate(
    task: Task, buffer: TeacherBuffer, state: PeerState, earlier: Earlier | None = None
) -> Generator[Event, None, None]:
    """The main loop."""
    return iterated(task, state, partial(propose, purpose="dsa", draw=siamese, draw_batch=batch_augment))


DSA = Method(
    name="dsa",
    initial_state=initial_state,
    restored_state=restored_state,
    iterate=iterate,
    shipped_labels=hard,
    reads=READS,
)

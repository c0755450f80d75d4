"""`dsa`, differentiable siamese augmentation (Zhao & Bilen, ICML 2021): `dc` with augmented batches.

A real and a synthetic batch that are compared have the same augmentation, with the same parameters for all of their
images (siamese); in the inner loops, where nothing is compared, every image has parameters of its own.
"""

from functools import partial

from engine.data.augment import draw_augment
from engine.methods.dc import READS, propose
from engine.methods.dm import initial_state
from engine.methods.method import Method, immediate
from engine.methods.peer_loop import stepping
from engine.methods.peer_state import hard, restore_state
from engine.methods.siamese import Augmentation, siamese
from engine.runtime.rng import counted_generator
from engine.training.task import Task


def batch_augment(task: Task, count: int, *counters: int) -> Augmentation:
    """One operation for `count` images, parameters by image."""
    generator = counted_generator(task.settings.seed, "dsa-train-augment", *counters)
    return draw_augment(generator, task.settings.augment.ops, (count, *task.image_shape), task.device)


DSA = Method(
    name="dsa",
    init_state=immediate(initial_state),
    restore_state=restore_state,
    make_step=stepping(partial(propose, purpose="dsa", draw=siamese, draw_batch=batch_augment)),
    export_labels=immediate(hard),
    reads=READS,
)

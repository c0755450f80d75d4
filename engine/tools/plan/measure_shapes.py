"""What of a run is a matter of shapes alone: operations, sizes and what is compiled. Called in its own process."""

from pathlib import Path

import torch

from engine.settings import Settings
from engine.tools.plan.compiling import training_compiling
from engine.tools.plan.problem import Found, epochs_of, matching_batch
from engine.tools.plan.sizes import graph_bytes
from engine.tools.plan.synthetic import Shape, changed, random_task
from engine.training.compile_policy import forward_flops, matching_compiles
from engine.training.evaluation import RULE, planned_steps
from engine.training.task import Task
from engine.training.teachers import teacher_rule

SEEN = 4
"""Images that a graph is counted with."""


def shapes(settings: str, shape: Shape, train: int, networks: list[str], folder: str) -> Found:
    """Sizes of a run's batches; by network P, operations of a forward pass and bytes of a graph per image.

    Args:
        settings: of the run, as JSON.
        shape: classes, channels, resolution.
        train: real images.
        networks: that are evaluated; the run's own comes besides.
        folder: for files.
    """
    run = Settings.model_validate_json(settings)
    run = changed(run, "compute", device="cpu")
    task = random_task(run, shape, Path(folder), train=shape[0], measured=1)
    images = shape[0] * run.distill.ipc
    views = task.decoder.views
    batch = matching_batch(run, images, views)
    taught = min(run.teachers.batch, train)
    trained_on = train if run.traits.all_images else images * views
    steps = run.teachers.count * run.trained_epochs
    # On the meta device, so that the rules do not count what only a CPU saves.
    own = task.fresh_network(0).train().to("meta")
    counts = {taught: steps * (train // taught), train % taught: steps}
    return {
        "images": images, "batch": batch, "teacher_batch": taught, "trained_on": trained_on,
        "values": shape[1] * shape[2] ** 2,
        "matching_compiles": matching_compiles(run, task.image_shape, task.classes, own),
        "teachers_compile": training_compiling(run, task, own, task.network_name, teacher_rule(run), counts).wanted,
        "networks": {
            name: _network(task, name, trained_on) for name in dict.fromkeys([task.network_name, *networks])
        },
    }  # fmt: skip


def _network(task: Task, name: str, images: int) -> Found:
    """P, operations and bytes of one network, and whether its evaluations are compiled."""
    model = task.fresh_network(0, name).train()
    counts = planned_steps(task, name, images, epochs_of(task.settings))
    blank = torch.zeros((SEEN, *task.image_shape))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops": forward_flops(model, blank[:1].to(task.dtype)),
        "graph_bytes": graph_bytes(task, blank.to(task.dtype), 8 * SEEN, model) // (8 * SEEN),
        "evaluation_compiles": training_compiling(
            task.settings, task, model.to("meta"), name, RULE, counts
        ).wanted,
    }  # fmt: skip

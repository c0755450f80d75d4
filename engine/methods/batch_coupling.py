"""Whether several processes can share a run: which depends on settings, data and network together."""

import torch

from engine.errors import UsageError
from engine.networks.dropout import without_dropout
from engine.networks.flat import FlatNetwork, flatten_parameters
from engine.runtime.rng import counted_generator, counted_seed
from engine.training.task import Task

COUPLED = 1e-3
"""Relative change of a network's output for an image in another batch that rounding cannot explain."""


def check_shared(task: Task) -> None:
    """Refuse what cannot be divided over ranks. One process can do all of it.

    Raises:
        UsageError: the unrolled gradient, fewer images in a batch than ranks, or a network with batch statistics.
    """
    ranks, distill = task.ranks.size, task.settings.distill
    if ranks == 1:
        return
    if distill.gradient == "unrolled":
        raise UsageError(
            "distill.gradient = unrolled is the reference, for one process.",
            "Use exact, which is the same gradient, or one worker.",
        )
    smallest = min(batch_sizes(task))
    if smallest < ranks:
        raise UsageError(
            f"{ranks} workers cannot divide a batch of {smallest} synthetic image{'s' if smallest > 1 else ''} "
            f"(distill.batch = {distill.batch}, {task.classes * distill.ipc} images in all).",
            f"Use at most {smallest} workers, or another distill.batch.",
        )
    if couples_images(task.flat_network(), task):
        raise UsageError(
            f"The output of the network {task.network_name} for an image depends on the whole batch (batch norm?), "
            "so workers with a part of the batch each would not get the result of one process.",
            "Use one worker, or a network with instance, group or layer norm.",
        )


def batch_sizes(task: Task) -> set[int]:
    """Sizes of the batches an iteration draws: the last of a round may be smaller."""
    distill, size = task.settings.distill, task.matching_batch
    count = task.classes * distill.ipc * task.decoder.views
    rest = count % size
    return {size, rest} if rest and distill.steps * size >= count else {size}


@torch.no_grad()
def couples_images(network: FlatNetwork, task: Task) -> bool:
    """Whether a network's output for an image depends on others in the batch. Measured, as a module may do anything."""
    seed = task.settings.seed
    theta = flatten_parameters(task.fresh_network(counted_seed(seed, "coupling")))
    noise = torch.randn((4, *task.image_shape), generator=counted_generator(seed, "coupling"))
    images = noise.to(task.device, task.dtype)
    with without_dropout(network.model):  # masks differ by the place in a batch, and that is no coupling
        whole = network(theta, images)
        halves = torch.cat([network(theta, half) for half in images.split(2)])
    return bool((whole - halves).norm() > COUPLED * whole.norm())

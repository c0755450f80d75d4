"""Whether compiling is worth it.

The decision is a function of settings, shapes and the machine. It must not depend on timings of the moment, on what is
compiled already or on how much is left: a stage that is stopped and resumed decides the same again and ends in the
same bits.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.networks import initialised_network
from engine.runtime.device import resolve_device
from engine.settings import Settings
from engine.training.machine_speed import cpu_speed

MARGIN = 2.0
"""What compiling has to save before it is worth it, in units of its cost."""


class Cost(NamedTuple):
    """What compiling a step for one batch size costs and saves on a kind of device."""

    seconds: float
    """To compile without a cache."""
    overhead: float
    """Seconds that a compiled step saves whatever its size: fewer operations are started."""
    per_flop: float
    """Seconds saved besides for every floating-point operation of one forward pass over the batch; on a CPU as fast as
    the reference in machine_speed.py."""


MATCHING = {"cpu": Cost(50.0, 4e-3, 5e-11), "cuda": Cost(25.0, 8e-3, 0.0)}
"""A pair of matching steps. CPU: 2 cores, compiled in 33 to 85 s. CUDA: an H200, compiled in 17 to 27 s, which saves 9
ms (without graphs) to 17 ms; eager steps of these sizes spend their time starting kernels."""

TRAINING = {"cpu": Cost(15.0, 1.5e-3, 3.3e-12), "cuda": Cost(15.0, 2e-3, 0.0)}
"""A training step. CPU: 2 cores, compiled in 10 to 19 s. CUDA: as a graph, 1.7 ms instead of 4.6 (H200)."""


def pays(costs: Mapping[str, Cost], model: nn.Module, images: Tensor, steps: int, device: str = "") -> bool:
    """Whether that many steps on batches like this save clearly more than compiling them costs.

    Args:
        costs: by kind of device.
        model: the network.
        images: a batch `(B, C, H, W)`, beside the network.
        steps: that will be taken.
        device: the kind they will be taken on, if not that of the images.
    """
    cost = costs.get(device or images.device.type, costs["cuda"])
    saved = cost.overhead
    if cost.per_flop:
        saved += cost.per_flop * len(images) * forward_flops(model, images[:1]) / cpu_speed()
    return steps * saved > MARGIN * cost.seconds


def matching_compiles(
    settings: Settings, shape: tuple[int, int, int], classes: int, model: nn.Module | None = None
) -> bool:
    """Whether a run compiles its matching steps: what `compute.compile` says, and for `auto` the cost.

    Args:
        settings: of the run.
        shape: (C, H, W).
        classes: K.
        model: the network, if there is one already; it decides about the device, else the settings do.

    Raises:
        UsageError: the device of the settings is not on this machine.
    """
    if settings.compute.stays_eager or settings.distill.gradient == "unrolled":
        return False
    if settings.compute.compile == "on":
        return True
    distill = settings.distill
    count = classes * distill.ipc
    size = count if distill.batch == "full" else distill.batch
    device = ""
    if model is None:
        device = resolve_device(settings.compute.device).type
        model = initialised_network(
            settings.network.name, seed=0, channels=shape[0], classes=classes, resolution=shape[1],
            width=settings.network.width, depth=settings.network.depth,
        )  # fmt: skip
    first = next(model.parameters())
    blank = torch.zeros((1, *shape), dtype=first.dtype, device=first.device)
    return pays(MATCHING, model, blank.expand(size, -1, -1, -1), distill.steps * distill.iterations, device)


def forward_flops(model: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one forward pass over one image `(1, C, H, W)`."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image)
    return counter.get_total_flops()

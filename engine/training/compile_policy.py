"""Whether compiling is worth it.

The decision is a function of settings and shapes. It must not depend on timings, on what is in a cache or on how much
is left: a stage that is stopped and resumed decides the same again and ends in the same bits.
"""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.networks import initialised_network
from engine.settings import Settings

MARGIN = 2.0
"""What compiling has to save before it is worth it, in units of its cost."""

MATCHING_SECONDS = 50.0
"""Compiling the two matching steps for one batch size without a cache, 2 CPU cores (measured: 33 to 85)."""
MATCHING_OVERHEAD = 4e-3
"""Seconds a compiled pair of matching steps saves whatever its size: a few hundred operations fewer are started."""
MATCHING_PER_FLOP = 5e-11
"""Seconds saved besides, on a CPU, for every floating-point operation of one forward pass over the batch."""


def matching_compiles(
    settings: Settings, shape: tuple[int, int, int], classes: int, model: nn.Module | None = None
) -> bool:
    """Whether a run compiles its matching steps: what `compute.compile` says, and for `auto` the cost.

    Args:
        settings: of the run.
        shape: (C, H, W).
        classes: K.
        model: the network, if there is one already.
    """
    if settings.compute.stays_eager or settings.distill.gradient == "unrolled":
        return False
    if settings.compute.compile == "on":
        return True
    distill = settings.distill
    count = classes * distill.ipc
    size = count if distill.batch == "full" else distill.batch
    if model is None:
        model = initialised_network(
            settings.network.name, seed=0, channels=shape[0], classes=classes, resolution=shape[1],
            width=settings.network.width, depth=settings.network.depth,
        )  # fmt: skip
    first = next(model.parameters())
    blank = torch.zeros((1, *shape), dtype=first.dtype, device=first.device)
    return matching_pays(model, blank.expand(size, -1, -1, -1), distill.steps * distill.iterations)


def matching_pays(model: nn.Module, images: Tensor, steps: int) -> bool:
    """Whether that many matching steps on batches like this save clearly more than compiling them costs."""
    saved = MATCHING_OVERHEAD
    if images.device.type == "cpu":
        saved += MATCHING_PER_FLOP * len(images) * forward_flops(model, images[:1])
    return steps * saved > MARGIN * MATCHING_SECONDS


def forward_flops(model: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one forward pass over one image `(1, C, H, W)`."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image)
    return counter.get_total_flops()

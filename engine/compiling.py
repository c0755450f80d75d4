"""Whether compiling is worth it, and where what was compiled is kept.

The decision is a function of settings and shapes. It must not depend on timings, on what is in a cache or on how much
is left: a stage that is stopped and resumed takes the same way again and ends in the same bits.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

MARGIN = 2.0
"""What compiling has to save before it is worth it, in units of its cost."""

MATCHING_SECONDS = 50.0
"""Compiling the two matching steps for one batch size without a cache, 2 CPU cores (measured: 33 to 85)."""
MATCHING_OVERHEAD = 4e-3
"""Seconds a compiled pair of matching steps saves whatever its size: some hundreds of operations are started less."""
MATCHING_PER_FLOP = 5e-11
"""Seconds saved besides, on a CPU, for every floating-point operation of one forward pass over the batch."""

CACHE = ".compiled"
"""The compiler's cache in a workspace: the second run of a shape starts in seconds."""


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


def keep_compiled(workspace: Path) -> None:
    """Let the compiler keep its results in the workspace, unless the user has given it another place."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((workspace / CACHE).resolve()))

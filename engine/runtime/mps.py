"""Apple's GPU (MPS): what users are told about it.

`compute.device = auto` does not take it: nothing here has been run on a Mac yet, and a run should not depend on what is
untested without having asked for it.
"""

import psutil
import torch

from engine.settings import ComputeSettings


def mps_notice(compute: ComputeSettings) -> str:
    """What to know about a run on MPS with these settings."""
    words = "compute.device = mps was not tested on a Mac: compare a short run with compute.device = cpu."
    if compute.deterministic:
        words += " PyTorch promises no deterministic kernels there: a resumed run may differ in rounding."
    if compute.precision == "tf32":
        words += " compute.precision = tf32 has no effect there: products are in float32."
    return words


def mps_words() -> str:
    """Whether this machine has it, and how to use it; empty where PyTorch was built without."""
    if not torch.backends.mps.is_built():
        return ""
    if not torch.backends.mps.is_available():
        return "not available: it needs Apple silicon and a recent macOS"
    return "available; compute.device = mps uses it, auto takes the CPU"


def mps_free_bytes() -> int:
    """What the GPU can still get: it shares the machine's memory, of which Metal recommends to use a part."""
    left = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return max(0, min(int(psutil.virtual_memory().available), left))

"""The gradient of the trajectory-matching loss with one step's graph alive at a time.

    L = ||theta_T - theta*||^2 / ||theta_0 - theta*||^2 ,   theta_{i+1} = theta_i - beta g_i      (TESLA, eq. 1)

`sweeps.py` is the algorithm, `steps.py` what one step computes, `compiled.py` the same through torch.compile (with the
CPU kernels from `cpu/`), `parameter_store.py` where the exact gradient keeps theta_i, `rank_shares.py` how ranks divide
a batch, `micro_batch.py` how one process takes it in parts.
"""

from engine.matching.compiled import CompiledSteps, checked_steps
from engine.matching.micro_batch import MicroSteps, part_sizes
from engine.matching.rank_shares import WHOLE, Parts, Whole
from engine.matching.steps import EagerSteps, Steps
from engine.matching.sweeps import MatchingGradient, Schedule, matching_gradient, matching_sweeps

__all__ = [
    "WHOLE",
    "CompiledSteps",
    "EagerSteps",
    "MatchingGradient",
    "MicroSteps",
    "Parts",
    "Schedule",
    "Steps",
    "Whole",
    "checked_steps",
    "matching_gradient",
    "matching_sweeps",
    "part_sizes",
]

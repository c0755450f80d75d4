"""The heart: the gradient of the trajectory-matching loss with one step's graph alive at a time.

    L = ||theta_T - theta*||^2 / ||theta_0 - theta*||^2 ,   theta_{i+1} = theta_i - beta g_i      (TESLA, eq. 1)

`sweeps.py` is the algorithm, `steps.py` what one step computes, `stores.py` where the exact gradient keeps theta_i.
"""

from engine.matching.compiled import CompiledSteps, checked_steps
from engine.matching.steps import EagerSteps, Steps
from engine.matching.sweeps import MatchingGradient, Schedule, matching_gradient, matching_sweeps

__all__ = [
    "CompiledSteps",
    "EagerSteps",
    "MatchingGradient",
    "Schedule",
    "Steps",
    "checked_steps",
    "matching_gradient",
    "matching_sweeps",
]

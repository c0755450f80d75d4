"""The gradient of the trajectory-matching loss, with one step's graph alive at a time."""

from engine.matching.compiled import CompiledSteps, checked_steps
from engine.matching.gradient import matching_gradient, matching_sweeps
from engine.matching.micro_batch import MicroSteps, part_sizes
from engine.matching.problem import MatchingGradient, Mode, Schedule
from engine.matching.rank_shares import WHOLE, Parts, Whole
from engine.matching.steps import EagerSteps, Steps

__all__ = [
    "WHOLE",
    "CompiledSteps",
    "EagerSteps",
    "MatchingGradient",
    "MicroSteps",
    "Mode",
    "Parts",
    "Schedule",
    "Steps",
    "Whole",
    "checked_steps",
    "matching_gradient",
    "matching_sweeps",
    "part_sizes",
]

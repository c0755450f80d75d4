"""What a run will take, before it starts: memory, disk and time, from a short measurement of the real code."""

from engine.tools.plan.machines import find_machine
from engine.tools.plan.planning import plan_run
from engine.tools.plan.report import Limits, Plan

__all__ = ["Limits", "Plan", "find_machine", "plan_run"]

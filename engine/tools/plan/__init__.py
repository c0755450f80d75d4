"""What a run will take, before it starts: memory, disk and time, from a short measurement of the real code.

`plan_run` is the entry point. `facts.py` knows the dataset's sizes without reading it, `measure.py` runs in separate
processes, `sums.py` scales up what they measured, `fitting.py` says what does not fit and what would make it fit.
"""

from engine.tools.plan.planning import plan_run
from engine.tools.plan.report import Limits, Plan

__all__ = ["Limits", "Plan", "plan_run"]

"""Studies: a question about a dataset, answered by a set of runs or measurements that can be stopped and resumed."""

from engine.tools.studies.outcome import Outcome

__all__ = ["Outcome"]

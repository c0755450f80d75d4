"""Studies: a question about a dataset, answered by a set of runs or measurements that can be stopped and resumed.

A study is a generator of events that returns an `Outcome`. Its runs are ordinary runs of the workspace, named
`NAME-...`; what it measures besides is kept point by point in `studies/NAME/points`. `STUDIES` lists them all.
"""

from engine.tools.studies.outcome import Outcome

__all__ = ["Outcome"]

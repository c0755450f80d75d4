"""A run's numbers for other programs: readers of the journal, which never disturb its driver."""

from engine.tools.tracking.series import Number, numbers_of
from engine.tools.tracking.table import write_csv

__all__ = ["Number", "numbers_of", "write_csv"]

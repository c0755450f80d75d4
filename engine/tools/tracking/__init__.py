"""A run's numbers for other programs: consumers of the journal, which never disturb whoever drives.

`series.py` says which numbers there are, `table.py` writes them as CSV, `tensorboard.py` as TensorBoard's event files.
"""

from engine.tools.tracking.series import Number, numbers_of, replayed
from engine.tools.tracking.table import write_csv

__all__ = ["Number", "numbers_of", "replayed", "write_csv"]

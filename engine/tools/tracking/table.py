"""A run's numbers as CSV, one point a line, the form that pandas, R and spreadsheets pivot from."""

import csv
from typing import TextIO

from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.tools.tracking.series import final_numbers

COLUMNS = ("series", "trajectory", "step", "value", "time")


def write_csv(run: Run, file: TextIO) -> int:
    """Write every point of a run; how many there are.

    Columns: `series`, `trajectory` (teachers only), `step` (iteration; of teachers, epoch), `value` (unrounded;
    accuracies 0..1, times in seconds), `time` (seconds since 1970).
    """
    numbers = final_numbers(entry for entry, _ in read_journal(run.journal_file))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in numbers:
        trajectory = "" if number.trajectory is None else number.trajectory
        writer.writerow([number.series, trajectory, number.step, repr(number.value), repr(number.time)])
    return len(numbers)

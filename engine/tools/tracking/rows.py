"""Rows of named values: what W&B and Trackio take.

The step of a row is twice the number of its line in the journal: the service itself knows which lines it has. Curves
are over `iteration` or `epoch`, which rows with numbers have. The step after a line tells a state that no line tells.
"""

from collections.abc import Callable
from typing import Any

from engine.tools.tracking.follow import End, Row, Tracker

Function = Callable[..., Any]


class RowTracker(Tracker):
    """Writes rows in ascending steps.

    Args:
        log: the service's function for a row, called with values and `step`.
        image: makes a picture for it.
        finish: waits until everything is sent; called with 1 for a run that failed, else 0.
        step: the next one of the service; 0 for a new run.
        where: see `Tracker`; so is `view`.
        view: how to see the run.
    """

    def __init__(self, log: Function, image: Function, finish: Function, step: int, where: str, view: str) -> None:
        self.lines, self.where, self.view = max(step - 1, 0) // 2, where, view
        self._log, self._image, self._finish, self._next = log, image, finish, step

    def take(self, row: Row) -> None:
        """Write what a journal line has, if anything."""
        values: dict[str, Any] = {number.name: number.value for number in row.numbers}
        if values:
            values[row.axis[0]] = row.axis[1]
        if row.state:
            values["state"] = row.state
        if (picture := row.picture()) is not None:
            caption = f"iteration {picture.iteration}"
            values |= {"images": self._image(picture.image, caption=caption), "iteration": picture.iteration}
        if values:
            self.points += len(row.numbers) + ("images" in values)
            self._next = 2 * row.line + 1
            self._log(values, step=2 * row.line)

    def close(self, end: End) -> None:
        """Tell the state, and wait until everything is sent."""
        if not end.told and 2 * end.line + 1 >= self._next:
            self._log({"state": end.state}, step=2 * end.line + 1)
        self._finish(int(end.state == "failed"))

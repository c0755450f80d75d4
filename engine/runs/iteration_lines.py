"""Journal lines of iterations in columns: a batch is checked at once, without an event for each.

A run of a hundred thousand iterations is a journal of a hundred thousand lines, which a window reads before it draws.
"""

from itertools import chain
from math import isfinite
from types import NoneType
from typing import Any

from engine.events import IterationDone
from engine.storage.untrusted import LATEST, MOST_INT

Columns = dict[str, list[Any]]
"""By field, a value for each line."""

WHOLE = ("seq", "iteration", "iterations")
NUMBERS = ("time", "loss", "student_lr", "gradient_norm", "seconds")
WHOLE_OR_NONE = ("trajectory", "start_epoch")
NUMBER_OR_NONE = ("student_lr_gradient",)


def iteration_columns(batch: list[dict[str, Any]]) -> Columns | None:
    """The columns of parsed lines, if every line is plainly an iteration; None: look at them one by one.

    It accepts nothing that `entry_from_json` refuses. It does leave some valid lines to that, such as a whole number
    where a fraction is usual.
    """
    try:
        columns = {
            name: [line[name] for line in batch] for name in chain(WHOLE, NUMBERS, WHOLE_OR_NONE, NUMBER_OR_NONE)
        }
    except KeyError:
        return None
    for names, allowed in (
        (WHOLE, {int}), (NUMBERS, {float}), (WHOLE_OR_NONE, {int, NoneType}), (NUMBER_OR_NONE, {float, NoneType})
    ):  # fmt: skip
        for name in names:
            if not set(map(type, columns[name])) <= allowed:
                return None
    whole = [value for name in (*WHOLE, *WHOLE_OR_NONE) for value in columns[name] if value is not None]
    numbers = [value for name in (*NUMBERS, *NUMBER_OR_NONE) for value in columns[name] if value is not None]
    if not (min(whole) >= -MOST_INT and max(whole) < MOST_INT and all(map(isfinite, numbers))):
        return None
    return columns if min(columns["time"]) >= 0 and max(columns["time"]) < LATEST else None


def columns_of(time: float, event: IterationDone) -> Columns:
    """One iteration as columns."""
    return {"time": [time], **{name: [value] for name, value in vars(event).items()}}

"""An existing run keeps its classes: their numbers are in its checkpoints, synthetic labels and teachers."""

import shlex
from collections.abc import Sequence

from engine.data.sources import natural_key
from engine.errors import UsageError
from engine.runs.journal import class_names
from engine.runs.run import Run

SHOWN = 30
"""Classes that a command spells out."""


def check_classes(run: Run, names: Sequence[str]) -> None:
    """Refuse a dataset with other classes than the run's, or with the same in another order.

    Args:
        run: existing or new.
        names: the classes of the dataset now, by number.

    Raises:
        UsageError: says why the order differs, and how to restore it.
    """
    if not run.checkpoints():
        return
    was = class_names(run.journal_file)
    if not was or was == list(names):
        return
    if sorted(was) != sorted(names):
        differing = sorted(set(was) ^ set(names), key=natural_key)
        raise UsageError(
            f"The run {run.name} was made with other classes: {_some(differing)} "
            f"{'is' if len(differing) == 1 else 'are'} only in the run or only in the dataset now.",
            "Restore the dataset, or dataset.classes, or start another run beside it with --run NAME.",
        )
    why = ""
    if was == sorted(was, key=natural_key) and list(names) == sorted(names):
        why = " tesla 0.1.0 sorted the folders of classes by number; now they are sorted by name, as ImageFolder does."
    listing = f"`printf '%s\\n' {' '.join(map(shlex.quote, was))} > classes.txt`"
    if len(was) > SHOWN:
        listing = f"a text file with a class per line, as `names` in {run.journal_file} has them"
    raise UsageError(
        f"The run {run.name} was made with its classes in the order {_some(was)}; now it is {_some(list(names))}.{why}",
        f"To restore it, make the file with {listing}, and set dataset.classes to that file in tesla.toml.",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if names[5:] else "")

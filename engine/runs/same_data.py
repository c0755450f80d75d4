"""An existing run keeps its dataset: its checkpoints, labels and teachers depend on the images and their classes."""

import shlex
from collections.abc import Sequence

from engine.data.sources import natural_key
from engine.errors import UsageError
from engine.runs.journal import data_of
from engine.runs.run import Run

SHOWN = 30
"""Classes that a command spells out."""


def check_data(run: Run, names: Sequence[str], fingerprint: str) -> None:
    """Refuse a dataset other than that of the run's checkpoints.

    Args:
        run: existing or new.
        names: the classes of the dataset now, by number.
        fingerprint: of the dataset now.

    Raises:
        UsageError: says what differs.
    """
    check_classes(run, names)
    was = data_of(run.journal_file) if run.checkpoints() else None
    if was is not None and was.fingerprint and was.fingerprint != fingerprint:
        raise UsageError(
            f"The images of the dataset, or their labels, have changed since the run {run.name} was started. Its "
            f"teachers, its held-out part and its input space are of the {was.train + was.holdout:,} training and "
            f"{was.test:,} test images that it had then.",
            "Restore the dataset, or start another run beside it with --run NAME.",
        )


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
    before = data_of(run.journal_file)
    was = list(before.names) if before is not None else []
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

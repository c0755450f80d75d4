"""Which class of the dataset each class number of a published set means."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import DataError, UsageError, system_reason
from engine.storage.untrusted import read_bounded
from engine.tools.exchange.card import distinct

MOST = 2**22
"""Bytes of a file of class names."""
SHOWN = 3


@dataclass(frozen=True)
class ClassOrder:
    """The dataset's class number for every class number of the set, and how it is known."""

    numbers: tuple[int, ...]
    words: str
    doubtful: bool = False
    """Assumed, where two orders are possible and differ."""


def class_order(
    classes: Sequence[str], folder: bool, wanted: str | None, named: Sequence[str] | None, source: str
) -> ClassOrder:
    """Find the order.

    Args:
        classes: names of the dataset's classes, by number.
        folder: whether the dataset is a class-per-folder tree. Published code sorts its classes as plain strings, as
            tesla does unless `dataset.classes` gives another order.
        wanted: `dataset`, `sorted`, or a file of names, one per line; None if not given.
        named: the class names in the set, by its numbers; None if it has none.
        source: where these names were.

    Raises:
        UsageError: the file of names does not fit.
        DataError: the names in the set do not.
    """
    if wanted == "dataset":
        return _order(classes, classes, "in this dataset's order (--classes dataset)")
    if wanted == "sorted":
        return _order(classes, sorted(classes), "in plain string order (--classes sorted)")
    if wanted is not None:
        return _order(classes, _matched(classes, _lines(Path(wanted)), wanted, UsageError), f"in the order of {wanted}")
    if named is not None:
        return _order(classes, _matched(classes, named, source, DataError), f"matched by name ({source})")
    other = sorted(classes)
    if folder and other != list(classes):
        place = next(i for i, (a, b) in enumerate(zip(classes, other, strict=True)) if a != b)
        order = _order(classes, other, "assumed to be in plain string order, as ImageFolder's")
        own = f"; this dataset's own order (--classes dataset) has {place} = {classes[place]}"
        return replace(order, words=order.words + own, doubtful=True)
    return _order(classes, classes, "assumed to be in this dataset's order; --classes FILE gives another")


def _order(classes: Sequence[str], ordered: Sequence[str], words: str) -> ClassOrder:
    """`ordered` are the dataset's names in the set's order; names that occur twice keep their order."""
    places: dict[str, list[int]] = {}
    for number, name in enumerate(classes):
        places.setdefault(name, []).append(number)
    numbers = tuple(places[name].pop(0) for name in ordered)
    first = ", ".join(f"{number} = {name}" for number, name in enumerate(ordered[:SHOWN]))
    return ClassOrder(numbers, f"{words}: {first}{', ...' if len(ordered) > SHOWN else ''}")


def _lines(path: Path) -> list[str]:
    try:
        text = read_bounded(path, MOST).decode("utf-8-sig")  # as dataset.classes: an editor may add a byte-order mark
    except OSError as error:
        raise UsageError(
            f"The file of class names {path} cannot be read ({system_reason(error)}).",
            "--classes takes a file with one name per line, or the word dataset or sorted.",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8.", "Write one class name per line.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _matched(
    classes: Sequence[str], named: Sequence[str], source: str, kind: type[UsageError] | type[DataError]
) -> list[str]:
    """The dataset's spelling of each name."""
    if sorted(named) == sorted(classes) or list(named) == distinct(classes):
        return list(classes) if list(named) == distinct(classes) else list(named)
    if len(named) != len(classes):
        raise kind(
            f"{source} names {len(named)} classes ({_shown(named)}); the dataset has {len(classes)} "
            f"({_shown(classes)}).",
            "Use a workspace with the dataset that the set was distilled from.",
        )
    spelled = {_folded(name): name for name in classes}
    unknown = [name for name in named if _folded(name) not in spelled]
    if unknown or len({_folded(name) for name in named}) != len(named):
        odd = unknown[0] if unknown else next(name for name, count in Counter(named).items() if count > 1)
        raise kind(
            f"{source} names the class {odd!r}, which the dataset does not have{' twice' if not unknown else ''}; its "
            f"classes are {_shown(classes)}.",
            "Write the dataset's names, one per line, in the order of the set's class numbers to a file, and give it "
            "with --classes FILE; or use --classes dataset if the order is this dataset's.",
        )
    return [spelled[_folded(name)] for name in named]


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")

"""The file of `dataset.classes`: which classes are used, in which order, and under which names."""

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.dataset import Classes
from engine.errors import CorruptFileError, UsageError, system_reason
from engine.storage.untrusted import read_bounded

MOST_BYTES = 2**24
"""Bytes of a class list; 20,000 long names take a tenth of it."""
MOST_LINE = 10_000
"""Characters of a line."""
SHOWN = 8
"""Classes that an error lists."""


@dataclass(frozen=True)
class ClassChoice:
    """The classes that are used."""

    names: tuple[str, ...]
    """In the order of their new numbers."""
    numbers: Classes
    """`(K,)`: new number of each class of the source, -1 for one that is left out."""
    notes: tuple[str, ...] = ()
    """What was renamed or merged, one sentence each."""


@dataclass(frozen=True)
class _Line:
    number: int
    known: int
    """Number of the class in the source."""
    name: str
    renamed: bool
    """Whether the line has an `=`."""


def read_class_list(path: Path, known: Sequence[str]) -> ClassChoice:
    """Read a class list.

    Args:
        path: UTF-8 text, a class per line: `name`, or `name = new name`. Empty lines and comments (`#`) are skipped.
        known: classes of the source.

    Raises:
        UsageError: the file cannot be read, a class is unknown or listed twice, two classes get the same name without
            saying so, or it lists fewer than two.
    """
    exact = {name: k for k, name in enumerate(known)}
    loose = {_plain(name): k for k, name in enumerate(known)}

    def find(name: str) -> int | None:
        return exact.get(name, loose.get(_plain(name)))

    lines = [_parsed(number, text, known, path, find) for number, text in _texts(path, known)]
    seen: dict[int, int] = {}
    for line in lines:
        if line.known in seen:
            raise UsageError(
                f"{path}, line {line.number}: the class {known[line.known]!r} is already on line {seen[line.known]}.",
                "List each class once.",
            )
        seen[line.known] = line.number
    members: dict[str, list[_Line]] = {}
    for line in lines:
        members.setdefault(line.name, []).append(line)
    _check_merges(path, known, members)
    if len(members) < 2:
        raise UsageError(
            f"{path} lists {'only one class' if members else 'no classes'}; a dataset needs at least two.",
            f"Write a class per line. The dataset has: {_some(known)}.",
        )
    numbers = np.full(len(known), -1, dtype=np.int64)
    for new, group in enumerate(members.values()):
        for line in group:
            numbers[line.known] = new
    return ClassChoice(tuple(members), numbers, _notes(known, members))


def _texts(path: Path, known: Sequence[str]) -> list[tuple[int, str]]:
    """Lines with contents, with their numbers from 1."""
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
    except (OSError, CorruptFileError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else error.message
        raise UsageError(
            f"dataset.classes = {path} cannot be read: {str(reason).rstrip('.')}.",
            "Give a text file with a class per line; the path is relative to the workspace's folder.",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"dataset.classes = {path} is not UTF-8 text.", "Save it as UTF-8.") from error
    names = set(known)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        kept = line if line in names else line.strip()  # a name may start or end with a space
        if kept not in names:  # a class may be called `#1`, or `C #`
            kept = "" if kept.startswith("#") else kept.partition(" #")[0].partition("\t#")[0].strip()
        if kept:
            found.append((number, kept))
    return found


def _parsed(number: int, text: str, known: Sequence[str], path: Path, find: Callable[[str], int | None]) -> _Line:
    if len(text) > MOST_LINE:
        raise UsageError(
            f"{path}, line {number} has {len(text):,} characters; a line has at most {MOST_LINE:,}.",
            "Write a class per line: `name`, or `name = new name`.",
        )
    whole = find(text)
    if whole is not None:
        return _Line(number, whole, known[whole], renamed=False)
    for at in (i for i, character in enumerate(text) if character == "="):  # a name may have an = in it
        old, new = text[:at].strip(), text[at + 1 :].strip()
        place = find(old)
        if place is not None:
            if not new:
                raise UsageError(f"{path}, line {number}: no name after {old!r} =.", "Write `name = new name`.")
            return _Line(number, place, new, renamed=True)
    wanted = text.partition("=")[0].strip()
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{path}, line {number}: the dataset has no class {wanted!r}.", f"{hint}It has: {_some(known)}.")


def _plain(name: str) -> str:
    """A name as compared: file systems differ in how they store accents."""
    return unicodedata.normalize("NFC", name.strip())


def _check_merges(path: Path, known: Sequence[str], members: dict[str, list[_Line]]) -> None:
    """Two classes become one only where every line of them says so."""
    for name, group in members.items():
        silent = next((line for line in group if not line.renamed), None)
        if len(group) > 1 and silent is not None:
            other = next(line for line in group if line is not silent)
            raise UsageError(
                f"{path}: {known[silent.known]!r} (line {silent.number}) and {known[other.known]!r} (line "
                f"{other.number}) would both be called {name!r}.",
                f"To merge them, write `{name} = {name}` on line {silent.number}; otherwise choose another name.",
            )


def _notes(known: Sequence[str], members: dict[str, list[_Line]]) -> tuple[str, ...]:
    merged = [
        f"The class {name!r} is made of {', '.join(repr(known[line.known]) for line in group)} (dataset.classes)."
        for name, group in members.items()
        if len(group) > 1
    ]
    renamed = [
        f"{known[group[0].known]} is now {name}"
        for name, group in members.items()
        if len(group) == 1 and known[group[0].known] != name
    ]
    if renamed:
        more = f", and {len(renamed) - SHOWN} more" if len(renamed) > SHOWN else ""
        merged.append(f"Renamed by dataset.classes: {', '.join(renamed[:SHOWN])}{more}.")
    return tuple(merged)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")

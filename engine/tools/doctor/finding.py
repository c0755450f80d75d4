"""What an examination finds."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engine.errors import UnreadableFileError
from engine.storage.atomic import disk
from engine.storage.reading import exists, is_folder
from engine.storage.temp_files import is_leftover, set_aside


@dataclass(frozen=True)
class Finding:
    """One thing that was examined."""

    good: bool
    """False: something is damaged or missing. Leftovers of a kill are harmless, and good."""
    what: str
    words: str
    repair: Callable[[], str] | None = None
    """Repairs it and returns what it did, a sentence; None where nothing is to be done, or nothing can be."""


Examine = Callable[[], Iterable[Finding]]
"""An examination that can be repeated."""

Lock = Callable[[], AbstractContextManager[object]]
"""What a repair takes first."""


def damaged(what: str, words: str, *paths: Path, then: str = "") -> Finding:
    """Damage that is repaired by moving files aside; `then`: what happens after that, a sentence."""
    folders = [path for path in paths if is_folder(path)]

    def repair() -> str:
        there = [path for path in paths if exists(path) or path.is_symlink()]
        # A file that took the place of a folder since is none of the damage.
        moved = [str(set_aside(path)) for path in there if path not in folders or is_folder(path)]
        return f"Moved to {' and '.join(moved)}." if moved else "It is gone already."

    return Finding(False, what, f"{words} {then}".strip(), repair)


def left(what: str, *paths: Path, words: str) -> Finding:
    """Something a kill left that nothing uses; `words`: a sentence without its full stop."""

    def repair() -> str:
        for path in paths:
            disk.remove_tree(path)
        return "Removed."

    return Finding(True, what, f"{words}.", repair)


def left_by(what: str, path: Path, words: str) -> Iterator[Finding]:
    """A temporary file, if the process that wrote it has exited."""
    if (exists(path) or path.is_symlink()) and is_leftover(path):
        yield left(what, path, words=words)


def lock_folder(what: str, lock: Path) -> Iterator[Finding]:
    """A folder in the place of a lock file."""
    if is_folder(lock):
        yield damaged(what, f"{lock} is a folder; a lock file belongs there.", lock)


def examined(examine: Examine, lock: Lock = nullcontext) -> list[Finding]:
    """What an examination finds, each repaired only if a second examination, right before, finds the same.

    Args:
        examine: one small part: it is repeated for each of its findings that is repaired.
        lock: held for the second examination and the repair; taking it fails while another process uses the files.
    """
    return [
        replace(found, repair=partial(_repaired, found, examine, lock)) if found.repair else found
        for found in looked(examine)
    ]


def looked(examine: Examine) -> Iterator[Finding]:
    """What an examination finds. Of what cannot be read now nothing is known, and nothing is repaired."""
    try:
        yield from examine()
    except UnreadableFileError as error:
        yield Finding(False, error.path.name, f"{error.message} {error.hint}")


def _repaired(finding: Finding, examine: Examine, lock: Lock) -> str:
    with lock():
        for found in looked(examine):
            if found.repair is not None and (found.what, found.words) == (finding.what, finding.words):
                return found.repair()
    return "It is no longer as it was examined; nothing was changed."

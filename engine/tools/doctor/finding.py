"""What an examination finds."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from engine.storage.atomic import disk
from engine.storage.temp_files import set_aside


@dataclass(frozen=True)
class Finding:
    """One thing that was examined."""

    good: bool
    """False: something is damaged or missing. Leftovers of a kill are harmless, and good."""
    what: str
    words: str
    repair: Callable[[], str] | None = None
    """Repairs it and returns what it did, a sentence; None where nothing is to be done, or nothing can be."""


def damaged(what: str, words: str, *paths: Path, then: str = "") -> Finding:
    """Damage that is repaired by moving files aside; `then`: what happens after that, a sentence."""
    folders = [path for path in paths if path.is_dir()]

    def repair() -> str:
        there = [path for path in paths if path.exists() or path.is_symlink()]
        # A file that took the place of a folder since is none of the damage.
        moved = [str(set_aside(path)) for path in there if path not in folders or path.is_dir()]
        return f"Moved to {' and '.join(moved)}." if moved else "It is gone already."

    return Finding(False, what, f"{words} {then}".strip(), repair)


def left(what: str, *paths: Path, words: str) -> Finding:
    """Something a kill left that nothing uses; `words`: a sentence without its full stop."""

    def repair() -> str:
        for path in paths:
            disk.remove_tree(path)
        return "Removed."

    return Finding(True, what, f"{words}.", repair)


def under(lock: Callable[[], AbstractContextManager[object]], finding: Finding) -> Finding:
    """The finding, repaired only while that lock is held; taking it fails while another process uses the files."""
    repair = finding.repair
    if repair is None:
        return finding

    def locked() -> str:
        with lock():
            return repair()

    return replace(finding, repair=locked)

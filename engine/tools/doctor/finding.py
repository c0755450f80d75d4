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
    mend: Callable[[], str] | None = None
    """Repairs it and returns what it did, a sentence; None if nothing has to or can be done."""


def damaged(what: str, words: str, *paths: Path, then: str = "") -> Finding:
    """Damage that is repaired by moving files aside; `then`: what happens next, a sentence."""

    def mend() -> str:
        moved = [str(set_aside(path)) for path in paths if path.exists() or path.is_symlink()]
        return " ".join(part for part in (f"Moved to {' and '.join(moved)}." if moved else "", then) if part)

    return Finding(False, what, f"{words} {then}".strip(), mend)


def left(what: str, *paths: Path, words: str) -> Finding:
    """Something left by a killed process that nothing uses."""

    def mend() -> str:
        for path in paths:
            disk.remove_tree(path)
        return "Removed."

    return Finding(True, what, words, mend)


def under(lock: Callable[[], AbstractContextManager[object]], finding: Finding) -> Finding:
    """The finding, repaired only while that lock is held; taking it fails while another process uses the files."""
    mend = finding.mend
    if mend is None:
        return finding

    def locked() -> str:
        with lock():
            return mend()

    return replace(finding, mend=locked)

"""What an examination finds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.storage.atomic import disk
from engine.storage.temp_files import set_aside


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    good: bool
    """False: something is damaged or missing. What a kill leaves is harmless, and good."""
    what: str
    words: str
    mend: Callable[[], str] | None = None
    """Repairs it and says in words what it did; None where nothing is to be done, or nothing can be."""


def damaged(what: str, words: str, *paths: Path, then: str = "") -> Finding:
    """Damage that is mended by moving files aside; `then`: what happens next, a sentence."""

    def mend() -> str:
        moved = [str(set_aside(path)) for path in paths if path.exists() or path.is_symlink()]
        return " ".join(part for part in (f"Moved to {' and '.join(moved)}." if moved else "", then) if part)

    return Finding(False, what, f"{words} {then}".strip(), mend)


def left(what: str, *paths: Path, words: str) -> Finding:
    """Something a kill left that nothing uses."""

    def mend() -> str:
        for path in paths:
            disk.remove_tree(path)
        return "Removed."

    return Finding(True, what, words, mend)

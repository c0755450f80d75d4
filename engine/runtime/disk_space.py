"""Space on the disk: what a stage will write, and whether it fits. Planning and running use the same sums."""

import errno
from collections.abc import Generator
from pathlib import Path

from engine.errors import DiskError
from engine.events import Event, Notice
from engine.storage.filesystem import disk, format_bytes

SAVED_BESIDES = 3
"""Checkpoints on disk besides `distill.keep`: the first, the selected one, and the one that is being written."""


def trajectory_bytes(epochs: int, parameters: int) -> int:
    """Bytes of a trajectory: a snapshot of P float32 numbers at initialisation and after every epoch."""
    return (epochs + 1) * parameters * 4


def buffer_bytes(left: int, trajectory: int) -> int:
    """Bytes that `left` trajectories of that size will take: one of them is there twice while it is published."""
    return (left + 1) * trajectory if left else 0


def checkpoints_bytes(keep: int, checkpoint: int, saved: int) -> int:
    """Bytes that the checkpoints of a run will still take, of which it has `saved`."""
    return max(0, (keep + SAVED_BESIDES) * checkpoint - saved)


def bytes_in(folder: Path, pattern: str = "*") -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) if folder.is_dir() else 0


def check_room(place: Path, needed: int, what: str, rule: str) -> Generator[Event, None, None]:
    """Compare what will be written with what is free, before it starts. Use as `yield from`.

    Args:
        place: where it will be written; need not exist yet.
        needed: bytes.
        what: the files, in the plural.
        rule: `compute.room`: refuse or warn.

    Raises:
        DiskError: there is less space, and the rule is to refuse.
    """
    free = disk.free(place)
    if free is None or needed <= free:
        return
    words = f"The {what} will take {format_bytes(needed)} in {place}, where {format_bytes(free)} are free."
    if rule == "refuse":
        raise DiskError(
            words,
            "Free some space, or move the workspace to a larger disk, then run the same command again; "
            "--set compute.room=warn starts anyway.",
            errno.ENOSPC,
        )
    yield Notice(level="warning", message=words)

"""The teacher trajectories of a run, read from the buffer's records, whichever process or host trains them."""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import CorruptFileError, UnreadableFileError
from engine.storage.atomic import read_json
from engine.storage.untrusted import typed

MARK = "trajectory-"


@dataclass(frozen=True)
class Trajectory:
    """One trajectory."""

    number: int
    epochs: int
    """Complete epochs."""
    losses: tuple[float, ...]
    """Training loss of epochs 1, 2, ..."""
    accuracies: tuple[float, ...]
    """Training accuracy of epochs 1, 2, ..., 0..1."""
    published: bool
    bytes: int
    changed: float
    """When its file was last written, seconds since 1970."""


@dataclass(frozen=True)
class _Record:
    """The fields of a trajectory's record that are shown (`engine.training.trajectory` has all, and needs PyTorch)."""

    rows: int
    losses: list[float]
    accuracies: list[float]


class BufferReader:
    """Reads `buffers/<name>`; a record is read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, tuple[int, int, Trajectory]] = {}

    def read(self) -> dict[int, Trajectory]:
        """Trajectories that are complete or being trained, by number."""
        found: dict[int, Trajectory] = {}
        for record in sorted(self.folder.glob(f"{MARK}*.json"), reverse=True):  # `.part` first: the published one wins
            trajectory = self._one(record)
            if trajectory is not None:
                found[trajectory.number] = trajectory
        return found

    def _one(self, path: Path) -> Trajectory | None:
        published = not path.name.endswith(".part.json")
        try:
            facts = path.stat()
            known = self._known.get(path)
            if known is not None and known[:2] == (facts.st_mtime_ns, facts.st_size):
                return known[2]
            record = typed(_Record, read_json(path))
            tensors = path.with_suffix(".safetensors") if published else path.with_suffix("")
            trajectory = Trajectory(
                number=int(path.name.removeprefix(MARK).split(".")[0]),
                epochs=record.rows - 1,
                losses=tuple(record.losses),
                accuracies=tuple(record.accuracies),
                published=published,
                bytes=tensors.stat().st_size,
                changed=facts.st_mtime,
            )
        except (OSError, ValueError, CorruptFileError, UnreadableFileError):
            return None
        self._known[path] = (facts.st_mtime_ns, facts.st_size, trajectory)
        return trajectory

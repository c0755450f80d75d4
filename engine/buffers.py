"""Teacher buffers on disk: one trajectory a file, one row an epoch, only the rows needed are ever read.

    buffers/<name>/manifest.json                    what the buffer is of; a run with other teachers refuses it
    buffers/<name>/trajectory-0000.safetensors      `parameters` [epochs + 1, P], float32, row 0 at initialisation
    buffers/<name>/trajectory-0000.json             sha256 of every row, loss and accuracy of every epoch
    buffers/<name>/trajectory-0000.part[.json]      a trajectory in the making: rows are appended

Checksums are kept by row, so that an iteration verifies exactly the two rows it reads.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from engine.errors import CorruptFileError, DivergedError, UsageError
from engine.finite import is_finite
from engine.storage import FORMAT, disk, publishing, read_json, read_tensors, write_json, write_tensors


@dataclass
class TrajectoryRecord:
    """What is known of a trajectory besides its parameters."""

    parameters: int
    """P."""
    rows: int = 0
    """Snapshots: epochs + 1."""
    checksums: list[str] = field(default_factory=list)
    """sha256 of each row's bytes."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of epochs 1, 2, ..."""
    accuracies: list[float] = field(default_factory=list)
    """Training accuracy of epochs 1, 2, ..., 0..1."""
    format: int = FORMAT

    @property
    def epochs(self) -> int:
        """Whole epochs trained."""
        return self.rows - 1


@dataclass(frozen=True)
class Position:
    """Where in the middle of an epoch a teacher was stopped."""

    theta: Tensor
    epoch: int
    step: int
    loss: float
    """Sum of losses over the images seen in this epoch."""
    correct: float


class TeacherBuffer:
    """A folder of trajectories.

    Args:
        folder: `buffers/<name>`; made when first written to.
        identity: everything that determines the trajectories (dataset, network, teacher settings, seed), as JSON.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self._records: dict[int, TrajectoryRecord] = {}

    def open(self) -> None:
        """Make the folder, or check that the existing one is of the same teachers.

        Raises:
            UsageError: the folder holds other teachers.
        """
        path = self.folder / "manifest.json"
        wanted = json.loads(json.dumps(self.identity))
        if not path.exists():
            write_json(path, {"format": FORMAT, "identity": wanted})
            return
        found = read_json(path).get("identity", {})
        differing = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
        if differing:
            raise UsageError(
                f"The teacher buffer {self.folder} is of other teachers: {', '.join(differing)} differ.",
                "Move the folder away, or use another workspace.",
            )

    def path(self, trajectory: int) -> Path:
        """The published file of a trajectory."""
        return self.folder / f"trajectory-{trajectory:04d}.safetensors"

    def claim(self, trajectory: int) -> FileLock:
        """The lock a worker holds while it trains this trajectory."""
        return FileLock(self.folder / f".trajectory-{trajectory:04d}.lock")

    def record(self, trajectory: int) -> TrajectoryRecord | None:
        """The record of a published trajectory, None if there is none."""
        if trajectory not in self._records:
            path = self.path(trajectory)
            if not path.exists() or not path.with_suffix(".json").exists():
                return None
            self._records[trajectory] = _record_from(path.with_suffix(".json"))
        return self._records[trajectory]

    def epochs(self, trajectory: int) -> int:
        """Whole epochs published; -1 if there is no such trajectory."""
        record = self.record(trajectory)
        return -1 if record is None else record.epochs

    def read(self, trajectory: int, *epochs: int) -> list[Tensor]:
        """Snapshots `(P,)` of the given epochs; nothing else of the file is read.

        Raises:
            CorruptFileError: a row does not match its checksum, or the file is damaged or missing.
            DivergedError: a row has numbers that are not finite.
        """
        from engine.tensor_file import read_rows

        path = self.path(trajectory)
        record = self.record(trajectory)
        if record is None:
            raise CorruptFileError(f"{path} is missing.", "`tesla teach` trains it again.")
        try:
            shape, rows = read_rows(path, "parameters", epochs)
        except (ValueError, OSError) as error:
            raise CorruptFileError(f"{path} cannot be read ({error}).", _REPAIR) from error
        if shape != [record.rows, record.parameters]:
            raise CorruptFileError(f"{path} has shape {shape}, not what its record says.", _REPAIR)
        for epoch, row in zip(epochs, rows, strict=True):
            if _digest(row) != record.checksums[epoch]:
                raise CorruptFileError(f"{path}: the snapshot of epoch {epoch} does not match its checksum.", _REPAIR)
            if not is_finite(row):
                raise DivergedError(
                    f"{path}: the snapshot of epoch {epoch} has numbers that are not finite: the teacher diverged.",
                    "Start a new run (--run NAME) with a smaller teachers.lr; or delete that file and its .json, and "
                    "`tesla teach` trains it again.",
                )
        return rows

    def begin(self, trajectory: int, parameters: int) -> "TrajectoryWriter":
        """Go on with a trajectory where it is, or begin it."""
        return TrajectoryWriter(self, trajectory, parameters)

    def forget(self, trajectory: int) -> None:
        """Drop what is remembered of a trajectory, after its file changed."""
        self._records.pop(trajectory, None)


_REPAIR = "Delete that file and its .json; `tesla teach` trains it again, to the same bits."


class TrajectoryWriter:
    """A trajectory in the making; killed at any moment, it goes on from the last whole epoch."""

    def __init__(self, buffer: TeacherBuffer, trajectory: int, parameters: int) -> None:
        self._buffer = buffer
        self._trajectory = trajectory
        self._target = buffer.path(trajectory)
        self._part = self._target.with_suffix(".part")
        self._part_record = self._target.with_suffix(".part.json")
        self._position = self._target.with_suffix(".position.safetensors")
        self.record = TrajectoryRecord(parameters)
        published = buffer.record(trajectory)
        if self._part.exists() and self._part_record.exists():
            self._resume_part()
        if published is not None and published.rows > self.record.rows and published.parameters == parameters:
            self._extend(published)

    def last_row(self) -> Tensor | None:
        """The newest snapshot `(P,)`; None for a trajectory that has not begun."""
        if self.record.rows == 0:
            return None
        size = self.record.parameters * 4
        with open(self._part, "rb") as file:
            file.seek((self.record.rows - 1) * size)
            return torch.from_numpy(np.frombuffer(file.read(size), dtype="<f4").copy())

    def append(self, theta: Tensor, loss: float | None = None, accuracy: float | None = None) -> None:
        """Add the snapshot `(P,)` of the next epoch, with the epoch's statistics (none for row 0)."""
        data = theta.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
        if self.record.rows == 0:
            self._part.unlink(missing_ok=True)
        disk.append(self._part, data)
        disk.fsync(self._part)
        self.record.checksums.append(hashlib.sha256(data).hexdigest())
        self.record.rows += 1
        if loss is not None and accuracy is not None:
            self.record.losses.append(loss)
            self.record.accuracies.append(accuracy)
        write_json(self._part_record, asdict(self.record))
        self.clear_position()

    def save_position(self, position: Position) -> None:
        """Keep a stop in mid-epoch."""
        record = {"epoch": position.epoch, "step": position.step, "loss": position.loss, "correct": position.correct}
        write_tensors(self._position, {"parameters": position.theta}, record)

    def position(self, epoch: int) -> Position | None:
        """The mid-epoch stop in this epoch, if there is one and it is whole."""
        try:
            tensors, record = read_tensors(self._position)
        except CorruptFileError:
            return None
        if record["epoch"] != epoch:
            return None
        return Position(tensors["parameters"], record["epoch"], record["step"], record["loss"], record["correct"])

    def clear_position(self) -> None:
        """Forget the mid-epoch stop."""
        disk.remove(self._position.with_suffix(".json"))
        disk.remove(self._position)

    def publish(self) -> None:
        """Give the finished trajectory its name. The JSON record comes last and makes it valid."""
        from safetensors.numpy import save_file

        rows = np.memmap(self._part, dtype="<f4", mode="r", shape=(self.record.rows, self.record.parameters))
        with publishing(self._target) as temp:
            save_file({"parameters": rows}, temp)
        write_json(self._target.with_suffix(".json"), asdict(self.record))
        disk.remove(self._part_record)
        disk.remove(self._part)
        self._buffer.forget(self._trajectory)

    def _resume_part(self) -> None:
        try:
            record = _record_from(self._part_record)
        except CorruptFileError:
            return
        size = record.parameters * 4
        if record.parameters != self.record.parameters or self._part.stat().st_size < record.rows * size:
            return
        with open(self._part, "r+b") as file:
            file.truncate(record.rows * size)  # a row whose record was never written
            for checksum in record.checksums:
                if hashlib.sha256(file.read(size)).hexdigest() != checksum:
                    return
        self.record = record

    def _extend(self, published: TrajectoryRecord) -> None:
        """Copy a published trajectory back into the making, to train it for more epochs."""
        rows = self._buffer.read(self._trajectory, *range(published.rows))
        self._part.unlink(missing_ok=True)
        self.record = TrajectoryRecord(published.parameters)
        for epoch, row in enumerate(rows):
            loss = published.losses[epoch - 1] if epoch else None
            accuracy = published.accuracies[epoch - 1] if epoch else None
            self.append(row, loss, accuracy)


def _record_from(path: Path) -> TrajectoryRecord:
    value = read_json(path)
    try:
        record = TrajectoryRecord(**value)
    except TypeError as error:
        raise CorruptFileError(f"{path} is not the record of a trajectory.", _REPAIR) from error
    if record.format != FORMAT or len(record.checksums) != record.rows:
        raise CorruptFileError(f"{path} is of another version, or damaged.", _REPAIR)
    return record


def _digest(row: Tensor) -> str:
    return hashlib.sha256(row.numpy().tobytes()).hexdigest()

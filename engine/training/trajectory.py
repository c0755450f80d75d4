"""A teacher's trajectory while it is trained: rows are appended as epochs end, and the whole is published at the end.

trajectory-0000.part            rows so far, float32
trajectory-0000.part.json       how many of them count, and their checksums
trajectory-0000.position.*      a stop in mid-epoch
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import CorruptFileError, UsageError
from engine.storage.atomic import (
    FORMAT,
    atomic_write,
    disk,
    read_json,
    read_tensors,
    set_aside,
    write_json,
    write_tensors,
)
from engine.storage.reading import exists, is_file, is_folder, told_reads
from engine.storage.tensors import file_parts
from engine.storage.untrusted import open_regular, typed
from engine.storage.versions import check_format

REPAIR = "`tesla run` (or `tesla doctor WORKSPACE --repair`) sets it aside and trains it again, to the same bits."


@dataclass
class TrajectoryRecord:
    """What is known about a trajectory besides its parameters."""

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


@dataclass(frozen=True)
class _Place:
    """What a mid-epoch stop records besides the parameters."""

    epoch: int
    step: int
    loss: float
    correct: float


class TrajectoryWriter:
    """A trajectory being trained; killed at any moment, it resumes from the last whole epoch.

    Args:
        target: the file it will be.
        parameters: P.
        published: what is known of a shorter one that has the name, to be trained for more epochs; or None.
        read: the first snapshots of that one, as many as requested.
        done: called when it is published.
    """

    def __init__(
        self,
        target: Path,
        parameters: int,
        published: TrajectoryRecord | None,
        read: Callable[[int], list[Tensor]],
        done: Callable[[], None],
    ) -> None:
        self._target = target
        self._done = done
        self._part = self._target.with_suffix(".part")
        self._part_record = self._target.with_suffix(".part.json")
        self._position = self._target.with_suffix(".position.safetensors")
        self.record = TrajectoryRecord(parameters)
        if exists(self._part) and exists(self._part_record):
            self._resume_part()
        if published is not None and published.rows > self.record.rows and published.parameters == parameters:
            self._extend(published, read(published.rows))

    def last_row(self) -> Tensor | None:
        """The newest snapshot `(P,)`; None for a trajectory that has not started."""
        if self.record.rows == 0:
            return None
        size = self.record.parameters * 4
        with open_regular(self._part) as file:
            file.seek((self.record.rows - 1) * size)
            return torch.from_numpy(np.frombuffer(file.read(size), dtype="<f4").copy())

    def append(self, theta: Tensor, loss: float | None = None, accuracy: float | None = None) -> None:
        """Add the snapshot `(P,)` of the next epoch, with the epoch's statistics (none for row 0)."""
        data = theta.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
        if self.record.rows == 0:
            self._begin_part()
        disk.append(self._part, data)
        disk.fsync(self._part)
        self.record.checksums.append(hashlib.sha256(data).hexdigest())
        self.record.rows += 1
        if loss is not None and accuracy is not None:
            self.record.losses.append(loss)
            self.record.accuracies.append(accuracy)
        check_there(self._target.parent)
        self.clear_position()  # first: no stop in mid-epoch stays behind a whole one
        write_json(self._part_record, asdict(self.record))

    def save_position(self, position: Position) -> None:
        """Keep a stop in mid-epoch, unless the folder was moved: it would be made again."""
        if not exists(self._target.parent):
            return
        record = {"epoch": position.epoch, "step": position.step, "loss": position.loss, "correct": position.correct}
        write_tensors(self._position, {"parameters": position.theta}, record)

    def position(self, epoch: int) -> Position | None:
        """The mid-epoch stop in this epoch, if there is one and it is whole."""
        try:
            tensors, record = read_tensors(self._position)
        except CorruptFileError:
            return None
        try:
            place = typed(_Place, record)
            theta = tensors["parameters"]
        except (ValueError, KeyError):
            return None
        if place.epoch != epoch or theta.shape != (self.record.parameters,) or place.step < 0:
            return None
        return Position(theta, place.epoch, place.step, place.loss, place.correct)

    def clear_position(self) -> None:
        """Remove the mid-epoch stop."""
        disk.remove(self._position.with_suffix(".json"))
        disk.remove(self._position)

    def publish(self) -> None:
        """Give the finished trajectory its name. The JSON record comes last and makes it valid."""
        shape = (self.record.rows, self.record.parameters)
        # Mapped as memory that may be written to, which PyTorch asks for; what is written would not reach the file.
        with told_reads(self._part):
            rows = torch.from_numpy(np.memmap(self._part, dtype="<f4", mode="c", shape=shape))
        with atomic_write(self._target) as temp:
            disk.write_parts(temp, file_parts({"parameters": rows}), rows.nbytes)
        write_json(self._target.with_suffix(".json"), asdict(self.record))
        disk.remove(self._part_record)
        disk.remove(self._part)
        self._done()

    def _begin_part(self) -> None:
        """Remove what an earlier attempt left; set aside what is not a trajectory's file."""
        for path in (self._part_record, self._part):
            if is_folder(path):
                set_aside(path)
            disk.remove(path)

    def _resume_part(self) -> None:
        try:
            record = read_record(self._part_record)
        except CorruptFileError:
            return
        if not is_file(self._part):
            return
        size = record.parameters * 4
        if record.parameters != self.record.parameters or self._part.stat().st_size < record.rows * size:
            return
        if self._part.stat().st_size > record.rows * size:
            disk.truncate(self._part, record.rows * size)  # a row whose record was never written
        with open_regular(self._part) as file:
            for checksum in record.checksums:
                if hashlib.sha256(file.read(size)).hexdigest() != checksum:
                    return
        self.record = record

    def _extend(self, published: TrajectoryRecord, rows: list[Tensor]) -> None:
        """Copy a published trajectory back to train it for more epochs."""
        self._begin_part()
        self.record = TrajectoryRecord(published.parameters)
        for epoch, row in enumerate(rows):
            loss = published.losses[epoch - 1] if epoch else None
            accuracy = published.accuracies[epoch - 1] if epoch else None
            self.append(row, loss, accuracy)


def check_there(folder: Path) -> None:
    """Raise UsageError if the folder of a buffer is gone: a write would make it again."""
    if not exists(folder):
        raise UsageError(
            f"The folder of the teachers, {folder}, was moved or deleted while they were used.",
            "Run the same command for the workspace where it is now; epochs trained before are saved there.",
        )


def read_record(path: Path) -> TrajectoryRecord:
    """The record of a trajectory, published or being trained.

    Raises:
        CorruptFileError: damaged.
        NewerFormatError: a newer version wrote it.
        FileNotFoundError: absent.
    """
    value = read_json(path)
    if isinstance(value, dict):
        check_format(value.get("format"), FORMAT, path)
    try:
        record = typed(TrajectoryRecord, value)
    except ValueError as error:
        raise CorruptFileError(f"{path} is not the record of a trajectory ({error}).", REPAIR) from error
    counts = {len(record.losses), len(record.accuracies)}
    if (
        record.format != FORMAT
        or record.parameters < 1
        or len(record.checksums) != record.rows
        or counts not in ({max(record.rows - 1, 0)}, {0})  # nothing is known of imported ones
    ):
        raise CorruptFileError(f"{path} comes from another version, or is damaged.", REPAIR)
    return record

"""Teacher buffers on disk: one trajectory a file, one row an epoch, only the rows needed are ever read.

    buffers/<name>/manifest.json                    identity of the buffer; a run with other teachers refuses it
    buffers/<name>/trajectory-0000.safetensors      `parameters` [epochs + 1, P], float32, row 0 at initialisation
    buffers/<name>/trajectory-0000.json             sha256 of every row, loss and accuracy of every epoch
    buffers/<name>/accuracy.json                    how good they are (teacher_accuracy.py)
    buffers/<name>/trajectory-0000.part[.json]      a trajectory being trained: rows are appended

Checksums are kept by row, so that an iteration verifies exactly the two rows it reads.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import CorruptFileError, DamagedTrajectoryError, DivergedError, UsageError
from engine.runtime.finite import is_finite
from engine.storage.atomic import FORMAT, atomic_write, disk, read_json, refuse_newer, set_aside, sweep, write_json
from engine.storage.lock import LeaseLock
from engine.storage.reading import exists, is_file, is_folder, paths_in, status_of, told_reads
from engine.storage.temp_files import ASIDE
from engine.storage.tensors import read_rows, row_parts
from engine.storage.versions import check_format
from engine.training.trajectory import REPAIR, TrajectoryRecord, TrajectoryWriter, check_there, read_record


class TeacherBuffer:
    """A folder of trajectories.

    Args:
        folder: `buffers/<name>`; created when first written to.
        identity: everything that determines the trajectories (dataset, network, teacher settings, seed), as JSON.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self._records: dict[int, TrajectoryRecord] = {}

    def open(self) -> list[str]:
        """Make the folder, or check that the existing one is of the same teachers; what was repaired, as messages.

        A damaged manifest is set aside and rebuilt: the folder's name, a digest of the identity, says the same, and
        every snapshot has its own checksum.

        Raises:
            UsageError: the folder holds other teachers, or a newer version made it.
        """
        sweep(self.folder)
        path = self.folder / "manifest.json"
        wanted = json.loads(json.dumps(self.identity))
        repaired: list[str] = []
        try:
            found = self.manifest()
        except CorruptFileError as error:
            repaired.append(f"{error.message} It is rebuilt; the damaged one was moved to {set_aside(path)}.")
            found = None
        if found is None:
            write_json(path, {"format": FORMAT, "identity": wanted})
            return repaired
        differing = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
        if differing:
            raise UsageError(
                f"The teacher buffer {self.folder} belongs to other teachers: {', '.join(differing)} differ.",
                "Move the folder away, or use another workspace.",
            )
        return repaired

    def check_there(self) -> None:
        """Refuse to write to a buffer that was moved or deleted since it was opened: its folder would be made again.

        Raises:
            UsageError: it was.
        """
        check_there(self.folder)

    def manifest(self) -> dict[str, Any] | None:
        """The identity in the manifest; None if there is none.

        Raises:
            CorruptFileError: it is damaged.
        """
        path = self.folder / "manifest.json"
        try:
            value = read_json(path)
        except FileNotFoundError:
            return None
        if not isinstance(value, dict) or not isinstance(value.get("identity"), dict):
            raise CorruptFileError(f"{path} is not the manifest of a teacher buffer.", REPAIR)
        check_format(value.get("format"), FORMAT, path)
        identity: dict[str, Any] = value["identity"]
        return identity

    def damage(self, trajectory: int) -> str:
        """What is wrong with a published trajectory, as far as cheap checks show; empty if nothing is.

        Its checksums are compared when it is read.
        """
        path = self.path(trajectory)
        self.forget(trajectory)
        try:
            record = self.record(trajectory)
            if record is None:
                return ""
        except CorruptFileError as error:
            return error.message
        if not is_file(path):
            return f"{path} is not a file."
        with told_reads(path):
            size, wanted = path.stat().st_size, record.rows * record.parameters * 4
        return f"{path} has {size} bytes; its snapshots have {wanted}." if size < wanted else ""

    def cut_off(self, trajectory: int) -> bool:
        """Whether a published trajectory still has the rows it was made of: its writer was killed removing them."""
        part, record = self.path(trajectory).with_suffix(".part"), self.path(trajectory).with_suffix(".part.json")
        if not (exists(part) or exists(record)):
            return False
        published = self.record(trajectory)
        if published is None or exists(part.with_suffix(".position.json")):
            return False  # being trained, or about to be trained for more epochs
        try:
            return not exists(record) or read_record(record).rows <= published.rows
        except CorruptFileError:
            return True

    def repair(self, trajectory: int) -> list[str]:
        """Set a damaged trajectory aside, and remove the rows of one that is cut off; messages about what was moved.

        Only for the holder of its claim.
        """
        found = self.damage(trajectory)
        if found:
            return [f"{found} It is trained again; what is left of it was moved to {self.set_aside(trajectory)}."]
        if self.cut_off(trajectory):
            disk.remove_tree(self.path(trajectory).with_suffix(".part.json"))
            disk.remove_tree(self.path(trajectory).with_suffix(".part"))
        return []

    def set_aside(self, trajectory: int) -> Path:
        """Move a damaged trajectory to the folder `damaged`; it is trained again."""
        path = self.path(trajectory)
        for part in (path.with_suffix(".json"), path):  # first what makes it valid
            if exists(part):
                set_aside(part)
        self.forget(trajectory)
        return self.folder / ASIDE

    def check_formats(self) -> None:
        """Refuse a buffer that a newer version has extended, before anything is changed.

        Raises:
            NewerFormatError: names the first such file.
        """
        for path in paths_in(self.folder, ".json"):
            refuse_newer(path)

    def path(self, trajectory: int) -> Path:
        """The published file of a trajectory."""
        return self.folder / f"trajectory-{trajectory:04d}.safetensors"

    def claim(self, trajectory: int) -> LeaseLock:
        """What a worker holds while it trains this trajectory."""
        name = f".trajectory-{trajectory:04d}"
        path = self.folder / f"{name}.lock"
        if is_folder(path):
            set_aside(path)
        return LeaseLock(path, self.folder / f"{name}.owner.json")

    def record(self, trajectory: int) -> TrajectoryRecord | None:
        """The record of a published trajectory, None if there is none."""
        if trajectory not in self._records:
            path = self.path(trajectory)
            if status_of(path) is None or status_of(path.with_suffix(".json")) is None:
                return None
            self._records[trajectory] = read_record(path.with_suffix(".json"))
        return self._records[trajectory]

    def epochs(self, trajectory: int) -> int:
        """Whole epochs published; -1 if there is no such trajectory."""
        record = self.record(trajectory)
        return -1 if record is None else record.epochs

    def read(self, trajectory: int, *epochs: int) -> list[Tensor]:
        """Snapshots `(P,)` of the given epochs; nothing else of the file is read.

        Raises:
            DamagedTrajectoryError: a row does not match its checksum, or the file is damaged or missing.
            UnreadableFileError: the system refuses to read it now.
            DivergedError: a row has numbers that are not finite.
        """

        path = self.path(trajectory)
        record = self.record(trajectory)
        if record is None:
            raise DamagedTrajectoryError(f"{path} is missing.", REPAIR, trajectory)
        try:
            shape, dtype, rows = read_rows(path, "parameters", epochs)
        except (ValueError, OSError) as error:  # wrong bytes, or no such file; a refusal is neither
            raise DamagedTrajectoryError(f"{path} cannot be read ({error}).", REPAIR, trajectory) from error
        except CorruptFileError as error:
            raise DamagedTrajectoryError(error.message, REPAIR, trajectory) from error
        if dtype is not torch.float32:
            raise DamagedTrajectoryError(f"{path} holds {dtype}, not float32.", REPAIR, trajectory)
        if shape != [record.rows, record.parameters]:
            words = f"{path} has shape {shape}, not what its record says."
            raise DamagedTrajectoryError(words, REPAIR, trajectory)
        for epoch, row in zip(epochs, rows, strict=True):
            if not 0 <= epoch < record.rows or _digest(row) != record.checksums[epoch]:
                words = f"{path}: the snapshot of epoch {epoch} does not match its checksum."
                raise DamagedTrajectoryError(words, REPAIR, trajectory)
            if not is_finite(row):
                raise DivergedError(
                    f"{path}: the snapshot of epoch {epoch} has numbers that are not finite: the teacher diverged.",
                    "Start a new run (--run NAME) with a smaller teachers.lr; or delete that file and its .json, and "
                    "`tesla teach` trains it again.",
                )
        return rows

    def begin(self, trajectory: int, parameters: int) -> TrajectoryWriter:
        """Resume a trajectory, or start it."""
        return TrajectoryWriter(
            self.path(trajectory),
            parameters,
            self.record(trajectory),
            lambda rows: self.read(trajectory, *range(rows)),
            lambda: self.forget(trajectory),
        )

    def publish(self, trajectory: int, rows: Iterable[Tensor], count: int) -> None:
        """Publish a trajectory that is already complete: `count` snapshots `(P,)`, float32, taken one at a time.

        Nothing is known of its losses. If `rows` raises, nothing is left of it.
        """
        record = TrajectoryRecord(0, rows=count)

        def hashed() -> Iterator[Tensor]:
            for row in rows:
                record.parameters = row.numel()
                record.checksums.append(_digest(row))
                yield row

        disk.make_folder(self.folder)
        with atomic_write(self.path(trajectory)) as temp:
            disk.write_parts(temp, row_parts("parameters", hashed(), count))
        write_json(self.path(trajectory).with_suffix(".json"), asdict(record))
        self.forget(trajectory)

    def forget(self, trajectory: int) -> None:
        """Drop what is cached of a trajectory, after its file changed."""
        self._records.pop(trajectory, None)


def _digest(row: Tensor) -> str:
    return hashlib.sha256(row.numpy().tobytes()).hexdigest()

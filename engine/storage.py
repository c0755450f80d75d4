"""Files that are either whole or absent: temp file, fsync, rename, fsync of the folder; sha256 checked on read.

Every byte the engine writes for good goes through `disk`, one object, so that a test can put a fault at any
file-system call of a save. Tensors are safetensors, everything else is JSON; there is no pickle.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import CorruptFileError
from engine.formats import check_format

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""Version of the files on disk; a reader refuses a newer one by name."""

TEMP_MARK = ".tmp-"


class Disk:
    """The one door to the file system for durable writes."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file."""
        self.write_parts(path, (data,))

    def write_parts(self, path: Path, parts: "Iterable[bytes | memoryview]") -> None:
        """Write a new file, part after part."""
        with open(path, "wb") as file:
            for part in parts:
                file.write(part)

    def append(self, path: Path, data: bytes) -> None:
        """One `write(2)` to the end of the file, so that lines of two writers never mix."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def fsync(self, path: Path) -> None:
        """Force a file or folder to the device."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically, replacing what has it."""
        source.replace(target)

    def replace(self, path: Path, data: bytes) -> None:
        """Rewrite a small file that readers must find whole but that need not survive a power cut."""
        temp = path.with_name(f"{path.name}{TEMP_MARK}{os.getpid()}")
        self.write(temp, data)
        self.rename(temp, path)

    def remove(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)


disk = Disk()


def _umask() -> int:
    # The only way to read it is to set it; the kernel also tells it without that race.
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Give a temporary file path beside `target`; on success it becomes `target`, on any error it is removed."""
    temp = target.with_name(f"{target.name}{TEMP_MARK}{uuid.uuid4().hex[:8]}")
    try:
        yield temp
        # Some writers make private files; ours are as readable as the user's umask says, for shared folders.
        temp.chmod(0o666 & ~_umask())
        disk.fsync(temp)
        disk.rename(temp, target)
        disk.fsync(target.parent)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


@contextmanager
def publishing_folder(target: Path) -> Iterator[Path]:
    """As `publishing`, for a whole folder: every file in it is synced before the folder gets its name.

    Raises:
        FileExistsError: `target` exists and is not an empty folder.
    """
    temp = target.with_name(f"{target.name}{TEMP_MARK}{uuid.uuid4().hex[:8]}")
    temp.mkdir(parents=True)
    try:
        yield temp
        for path in sorted(temp.rglob("*")):
            disk.fsync(path)
        disk.fsync(temp)
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} exists and is not empty")
        disk.rename(temp, target)
        disk.fsync(target.parent)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Publish `data` under `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with publishing(path) as temp:
        disk.write(temp, data)


def write_json(path: Path, value: Any) -> None:
    """Publish `value` as readable JSON. Non-finite numbers are refused: they are not JSON."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parse a JSON file of ours.

    Raises:
        CorruptFileError: not JSON.
        FileNotFoundError: absent.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise CorruptFileError(f"{path} is not valid JSON ({error}).", "Delete it; it is made again.") from error


def refuse_newer(path: Path) -> None:
    """Look at the format of a JSON file and at nothing else; damage is for whoever reads it.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    with suppress(CorruptFileError, FileNotFoundError):
        value = read_json(path)
        if isinstance(value, dict):
            check_format(value.get("format"), FORMAT, path)


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], record: Mapping[str, Any]) -> None:
    """Publish `tensors` as `path` (safetensors) with `record` beside it as `.json`.

    The JSON carries the sha256 of the tensors and is renamed last: it is the commit point, so a pair is valid
    only when both files are whole and belong together. The tensors are written as they lie in memory, not copied.
    """
    from engine.tensor_file import file_parts

    digest = hashlib.sha256()

    def hashed() -> Iterator[memoryview]:
        for part in file_parts(tensors):
            digest.update(part)
            yield part

    path.parent.mkdir(parents=True, exist_ok=True)
    with publishing(path) as temp:
        disk.write_parts(temp, hashed())
    write_json(path.with_suffix(".json"), {"format": FORMAT, "sha256": digest.hexdigest(), **record})


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read a pair written by `write_tensors` and check it.

    Raises:
        CorruptFileError: a file of the pair is missing, truncated or altered.
        NewerFormatError: a newer version wrote it.
    """
    from engine.tensor_file import read_file

    older = "An older checkpoint is used if there is one."
    digest = hashlib.sha256()
    try:
        record = read_json(path.with_suffix(".json"))
        if not isinstance(record, dict):
            raise CorruptFileError(f"{path.with_suffix('.json')} is not a record.", older)
        check_format(record.get("format", 0), FORMAT, path)
        tensors = read_file(path, digest.update)
    except FileNotFoundError as error:
        raise CorruptFileError(f"{error.filename} is missing.", older) from error
    except ValueError as error:
        raise CorruptFileError(f"{path} is not a whole safetensors file: {error}.", older) from error
    if digest.hexdigest() != record.get("sha256"):
        raise CorruptFileError(f"{path} does not match its checksum.", older)
    return tensors, record

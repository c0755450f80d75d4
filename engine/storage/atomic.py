"""Files that are either whole or absent: temp file, fsync, rename, fsync of the folder; sha256 checked on read.

Everything the engine writes permanently goes through one object, `disk` (see filesystem.py). Tensors are safetensors,
everything else is JSON with its own checksum; there is no pickle.
"""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import CorruptFileError, UsageError, system_reason
from engine.storage.filesystem import disk
from engine.storage.reading import is_special
from engine.storage.temp_files import TEMP_MARK, begin_temp, end_temp, set_aside, sweep, sweep_target
from engine.storage.untrusted import MOST_JSON, open_regular, parse_json, read_bounded
from engine.storage.versions import check_format

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMAT",
    "TEMP_MARK",
    "atomic_write",
    "disk",
    "publish_folder",
    "publishing_folder",
    "read_json",
    "read_tensors",
    "removing",
    "replace_bytes",
    "sealed_json",
    "set_aside",
    "sha256_file",
    "sweep",
    "write_bytes",
    "write_json",
    "write_tensors",
]  # fmt: skip

FORMAT = 1
"""Version of the files on disk; a reader refuses a newer one by name."""

SEAL = "checksum"
"""Key of a JSON object that holds the sha256 of the rest. Files of earlier versions have none."""

REPAIR = "Run `tesla doctor WORKSPACE --repair` to set it aside, then run the same command again."


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary file path beside `target`; on success it becomes `target`, on any error it is removed.

    Raises:
        UsageError: it is a device, a pipe or a socket, as /dev/stdout: it would be replaced by a file.
        DiskError: the system refuses.
    """
    if is_special(target):
        raise UsageError(f"{target} is not an ordinary file.", "Name a file in a folder of your own.")
    disk.make_folder(target.parent)
    temp = begin_temp(target)
    try:
        yield temp
        disk.fsync(temp)
        _clear(target)
        disk.rename(temp, target)
        disk.fsync(target.parent)
    except BaseException:
        with suppress(OSError):  # on a failing disk it stays, and the next writer sweeps it
            disk.remove(temp)
        raise
    finally:
        end_temp(temp)


@contextmanager
def removing(path: Path) -> Iterator[None]:
    """Take a file's name away at once and remove it after the block: if killed in between, it is swept later."""
    temp = begin_temp(path)
    try:
        disk.rename(path, temp)
        yield
        disk.remove(temp)
    finally:
        end_temp(temp)


@contextmanager
def publishing_folder(target: Path) -> Iterator[Path]:
    """As `atomic_write`, for a whole folder: every file in it is synced before the folder gets its name.

    What dead writers of this folder left beside it is removed first: killed at any moment, the same work done again
    ends in the same state.

    Raises:
        UsageError: `target` exists and is not an empty folder, by now.
    """
    disk.make_folder(target.parent)
    sweep_target(target)
    temp = begin_temp(target)
    try:
        disk.make_folder(temp)
        yield temp
        try:
            publish_folder(temp, target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) and not isinstance(error, FileExistsError):
                raise
            raise UsageError(
                f"{target} was created by another process in the meantime.",
                "It was left unchanged. Choose another name.",
            ) from error
    except BaseException:
        with suppress(OSError):
            disk.remove_tree(temp)
        raise
    finally:
        end_temp(temp)


def publish_folder(temp: Path, target: Path) -> None:
    """Give a folder its name, after every file in it is synced.

    Raises:
        FileExistsError: `target` exists and is not an empty folder.
    """
    for path in sorted(temp.rglob("*")):
        disk.fsync(path)
    disk.fsync(temp)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} exists and is not empty")
    disk.rename(temp, target)
    disk.fsync(target.parent)


def _clear(target: Path) -> None:
    """A file cannot replace a folder; the folder is kept under another name."""
    if target.is_dir() and not target.is_symlink():
        set_aside(target)


def write_bytes(path: Path, data: bytes, *, tidy: bool = False) -> None:
    """Publish `data` under `path`.

    Args:
        path: of the file.
        data: its bytes.
        tidy: first remove what dead writers of this file left beside it; for a folder that nothing else sweeps.
    """
    if tidy:
        sweep_target(path)
    with atomic_write(path) as temp:
        disk.write(temp, data)


def replace_bytes(path: Path, data: bytes) -> None:
    """Rewrite a small file that readers must find whole but that need not survive a power cut."""
    temp = begin_temp(path)
    try:
        disk.write(temp, data)
        _clear(path)
        disk.rename(temp, path)
    except BaseException:
        with suppress(OSError):
            disk.remove(temp)
        raise
    finally:
        end_temp(temp)


def write_json(path: Path, value: Mapping[str, Any], *, tidy: bool = False) -> None:
    """Publish an object as readable JSON, sealed with its checksum. Non-finite numbers are not JSON and are refused.

    `tidy`: see `write_bytes`.
    """
    write_bytes(path, sealed_json(value), tidy=tidy)


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """The text of an object with its checksum, for a file that `read_json` reads."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # as it will be read: lists for tuples, words for keys
    text = json.dumps({**plain, SEAL: _seal(plain)}, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # bytes of a path that are not UTF-8, escaped as JSON does


def _seal(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Parse a sealed JSON file, check its seal and remove it.

    Raises:
        CorruptFileError: not JSON, not a regular file, too large, or changed since it was written.
        NewerFormatError: changed, and in a format that this version does not know.
        UnreadableFileError: the system refuses to read it now.
        FileNotFoundError: absent.
    """
    try:
        value = parse_json(read_bounded(path, MOST_JSON))
    except ValueError as error:
        raise CorruptFileError(f"{path} is not valid JSON ({error}).", REPAIR) from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise CorruptFileError(f"{path} is not a file ({system_reason(error)}).", REPAIR) from error
    if isinstance(value, dict) and any(_nearly(key) for key in value):
        raise CorruptFileError(f"{path} does not match its checksum.", REPAIR)
    if isinstance(value, dict) and SEAL in value:
        seal = value.pop(SEAL)
        try:
            whole = seal == _seal(value)
        except ValueError:  # NaN and the like, which are never written
            whole = False
        if not whole:
            with suppress(CorruptFileError):  # a newer version may seal its files in another way: leave them alone
                check_format(value.get("format"), FORMAT, path)
            raise CorruptFileError(f"{path} does not match its checksum.", REPAIR)
    return value


def _nearly(key: str) -> bool:
    """Whether a key is the seal's with one wrong letter: damage to that name must not disable the check."""
    return len(key) == len(SEAL) and sum(a != b for a, b in zip(key, SEAL, strict=True)) == 1


def refuse_newer(path: Path) -> None:
    """Check only the format of a JSON file; its reader reports damage.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    with suppress(CorruptFileError, FileNotFoundError):
        value = read_json(path)
        if isinstance(value, dict):
            check_format(value.get("format"), FORMAT, path)


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], record: Mapping[str, Any]) -> None:
    """Publish `tensors` as `path` (safetensors) with `record` beside it as `.json`.

    The JSON carries the sha256 of the tensors and is renamed last: it is the commit point, so a pair is valid
    only when both files are whole and belong together. The tensors are written from memory without a copy.
    """
    from engine.storage.tensors import file_parts

    digest = hashlib.sha256()

    def hashed() -> Iterator[memoryview]:
        for part in file_parts(tensors):
            digest.update(part)
            yield part

    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with atomic_write(path) as temp:
        disk.write_parts(temp, hashed(), size)
    write_json(path.with_suffix(".json"), {"format": FORMAT, "sha256": digest.hexdigest(), **record})


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read a pair written by `write_tensors` and check it.

    Raises:
        CorruptFileError: a file of the pair is missing, truncated or altered.
        UnreadableFileError: the system refuses to read one now.
        NewerFormatError: a newer version wrote it.
    """
    from engine.storage.tensors import read_file

    digest = hashlib.sha256()
    try:
        record = read_json(path.with_suffix(".json"))
        if not isinstance(record, dict):
            raise CorruptFileError(f"{path.with_suffix('.json')} is not a record.", REPAIR)
        check_format(record.get("format", 0), FORMAT, path)
        tensors = read_file(path, digest.update)
    except FileNotFoundError as error:
        raise CorruptFileError(f"{error.filename} is missing.", REPAIR) from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise CorruptFileError(f"{path} is not a file ({system_reason(error)}).", REPAIR) from error
    except ValueError as error:
        raise CorruptFileError(f"{path} is not a complete safetensors file: {error}.", REPAIR) from error
    if digest.hexdigest() != record.get("sha256"):
        raise CorruptFileError(f"{path} does not match its checksum.", REPAIR)
    return tensors, record

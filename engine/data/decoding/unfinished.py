"""A dataset that is being decoded: its folder survives the process, and the next one continues it.

The folder has a temporary name beside the cache entry (see engine/storage/temp_files.py), and gets the entry's name
when everything in it is whole. `progress.json` in it says how far its arrays are known to be on the device: it is
written after they are synced, with the checksum of that much of them, which is compared before they are continued.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from engine.errors import CorruptFileError, DataError, NewerFormatError
from engine.storage.atomic import FORMAT, disk, publish_folder, read_json, replace_bytes, sealed_json
from engine.storage.lock import KernelLock
from engine.storage.reading import exists
from engine.storage.temp_files import OLD, TEMP_MARK, begin_temp, end_temp, is_leftover, leftovers
from engine.storage.untrusted import open_regular
from engine.storage.versions import check_format

RECORD = "progress.json"
MOST_MESSAGES = 1000
"""Messages about images left out that are kept; all are counted."""


@dataclass
class SplitRecord:
    """How far a split is."""

    done: int = 0
    """Images decoded or left out."""
    sha256: str = ""
    """Of the images in its file up to there, without the header."""
    bad: list[int] = field(default_factory=list)
    """Places of the images that were left out, among those to decode."""
    resized: int = 0
    """Images that had another size."""
    not_square: int = 0


@dataclass
class Record:
    """How far a dataset is."""

    format: int
    plan: str
    """Digest of what is decoded, and how: another plan does not continue this one."""
    channels: int
    messages: list[str] = field(default_factory=list)
    """About the images that were left out; the first `MOST_MESSAGES`."""
    splits: dict[str, SplitRecord] = field(default_factory=lambda: {"train": SplitRecord(), "test": SplitRecord()})

    @property
    def done(self) -> int:
        """Images of all splits decoded or left out."""
        return sum(split.done for split in self.splits.values())

    def to_bytes(self) -> bytes:
        """As the record's file, of this moment."""
        return sealed_json(asdict(self))


def read_record(folder: Path, plan: str, channels: int) -> Record:
    """The record in a folder, or a new one where it has none of this plan; nothing in it is verified."""
    with suppress(FileNotFoundError, CorruptFileError, NewerFormatError, ValueError):
        found = TypeAdapter(Record).validate_python(read_json(folder / RECORD))
        check_format(found.format, FORMAT, folder / RECORD)
        if found.plan == plan and set(found.splits) == {"train", "test"}:
            return found
    return Record(FORMAT, plan, channels)


def write_record(folder: Path, data: bytes) -> None:
    """Sync the arrays in a folder, then write its record."""
    for path in sorted(folder.glob("*.npy")):
        disk.fsync(path)
    replace_bytes(folder / RECORD, data)


def sha256_part(path: Path, start: int, size: int) -> "hashlib._Hash | None":
    """The sha256 of `size` bytes of a file from `start` on, to be continued; None if it has fewer."""
    digest = hashlib.sha256()
    with suppress(FileNotFoundError, CorruptFileError), open_regular(path) as file:
        file.seek(start)
        while size and (piece := file.read(min(size, 2**22))):
            digest.update(piece)
            size -= len(piece)
        return digest if size == 0 else None
    return None


@contextmanager
def unfinished_folder(target: Path, *, locked: bool) -> Iterator[Path]:
    """A folder that becomes `target`: that of a process that was stopped, or a new one.

    It stays where it is when the block ends early with something worth continuing in it, but for a DataError: the same
    would fail again.

    Args:
        target: the cache entry.
        locked: whether this process has the entry's lock. If not, another may be writing an unfinished folder.

    Raises:
        FileExistsError: `target` exists and is not an empty folder.
    """
    temp = begin_temp(target)
    try:
        if not _taken_over(target, temp, locked=locked):
            disk.make_folder(temp)
        yield temp
        disk.remove(temp / RECORD)
        publish_folder(temp, target)
    except BaseException as error:
        if isinstance(error, DataError) or not exists(temp / RECORD):
            with suppress(OSError):
                disk.remove_tree(temp)
        raise
    finally:
        end_temp(temp)


def _taken_over(target: Path, temp: Path, *, locked: bool) -> bool:
    """Give the newest unfinished folder of `target` the name `temp`, and remove the others; whether there was one."""
    found = sorted(target.parent.glob(f"{target.name}{TEMP_MARK}*"), key=_changed, reverse=True)
    taken = False
    for path in found:
        if not locked and not is_leftover(path):
            continue
        if taken or not exists(path / RECORD):
            disk.remove_tree(path)
        else:
            with suppress(FileNotFoundError):  # without locks, another process was faster
                disk.rename(path, temp)
                taken = True
    return taken


def _changed(path: Path) -> float:
    """When an unfinished folder last got further; 0 if it never did."""
    with suppress(OSError):
        return (path / RECORD).stat().st_mtime
    return 0.0


def sweep_unfinished(root: Path) -> None:
    """Remove what stopped processes left in the cache a day ago and more, of other entries too."""
    for path in leftovers(root):
        if time.time() - max(_changed(path), path.stat().st_mtime) > OLD:
            with KernelLock(root / f"{path.name.partition(TEMP_MARK)[0]}.lock") as lock:
                if lock.try_acquire() is not False:
                    disk.remove_tree(path)

"""Published `.pt` files, read without trusting them: nothing but tensors in lists, mapped into memory and not loaded.

`torch.save` writes a zip archive of raw storages and one pickle. `weights_only` reads that pickle with an interpreter
that knows tensors and plain containers and calls nothing else (https://docs.pytorch.org/docs/stable/notes/serialization.html).
Arrays of numpy beside them are rebuilt by `numpy_pickle`.
A mapped file is not verified by PyTorch, so the archive's own checksums are checked here first; one pass over the file.
"""

import errno
import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from engine.errors import DataError, UsageError, require_utf8
from engine.events import Event, Progress
from engine.storage.filesystem import format_bytes
from engine.storage.reading import open_to_read, status_of, unreadable
from engine.storage.untrusted import emptiness
from engine.tools.exchange.numpy_pickle import Array, stand_ins

STAGE = "import"
MOST_GROWTH = 20
"""A compressed archive of numpy's that claims more than this many times its size is not opened."""
PIECE = 2**24
"""Bytes read at once."""
WIDENED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that PyTorch stores and hardly computes with; read as int64."""
TYPES = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8,
                   torch.int16, torch.int32, torch.int64, *WIDENED))  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """A file whose container was checked."""

    path: Path
    bytes: int
    sha256: str
    mapped: bool
    """A zip archive, which is mapped; older files are loaded whole."""


def examine(path: Path, done: int, total: int, *, strict: bool = True) -> Generator[Event, None, SourceFile]:
    """Check a file's container and give its digest. Use as `yield from`.

    Args:
        path: the file.
        done: bytes of other files examined before, for the progress.
        total: bytes of all.
        strict: refuse an archive that is compressed, which torch.save never writes (numpy may).

    Raises:
        UsageError: there is no such file, or PyTorch cannot open one of this name.
        DataError: it is damaged, or made to grow when it is read.
    """
    size = file_size(path)
    digest = hashlib.sha256()
    with open_to_read(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            done += len(piece)
            if total < 1e6:
                continue  # fails before anything can read it
            yield Progress(stage=STAGE, done=done / 1e6, total=total / 1e6, unit="MB", detail=f"checking {path.name}")
    mapped = is_archive(path)
    if mapped:
        require_utf8(path, "PyTorch")
    with open_to_read(path) as file:
        if not mapped and file.read(4) == b"PK\x03\x04":
            raise DataError(f"{path} is damaged: the end of the archive is missing.", "Download it again.")
    if mapped:
        _check_archive(path, size, strict)
    return SourceFile(path, size, digest.hexdigest(), mapped)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive.

    Raises:
        DataError: it is part of one.
    """
    try:
        with open_to_read(path) as file:  # given a path, it takes a refusal for another kind of file
            return zipfile.is_zipfile(file)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is damaged ({error}).", "Download it again.") from error


def file_size(path: Path) -> int:
    """Bytes of a regular file that is not empty.

    Raises:
        UsageError: it is not one.
        DataError: it is empty, or huge and nearly all hole.
        UnreadableFileError: the system refuses.
    """
    status = status_of(path)
    if status is None:
        raise UsageError(f"{path} does not exist.")
    if not stat.S_ISREG(status.st_mode):
        folder = "Give the .pt files themselves, e.g. buffers/replay_buffer_*.pt"
        raise UsageError(f"{path} is not a file.", folder if stat.S_ISDIR(status.st_mode) else "Give an ordinary file.")
    if status.st_size == 0:
        raise DataError(f"{path} is empty.", "Download it again.")
    if words := emptiness(status):
        raise DataError(f"{path} {words}.", "Its download is probably unfinished: download it again.")
    return status.st_size


def load(source: SourceFile) -> Any:
    """The value in the file, its tensors on the CPU. They stay mapped while anything of it is alive.

    Raises:
        DataError: not a file of tensors in plain containers; nothing in it was run.
        UnreadableFileError: the system refuses to read it now.
    """
    if not source.mapped:
        free = psutil.virtual_memory().available
        if source.bytes > 0.8 * free:
            raise DataError(
                f"{source.path} is in the format of PyTorch before 1.6, which can only be loaded whole. It needs "
                f"{format_bytes(source.bytes)}, and {format_bytes(free)} of memory are free.",
                "Save it again on a machine with more memory: torch.save(torch.load(path, weights_only=True), path).",
            )
    try:
        with torch.serialization.safe_globals(stand_ins()):
            return torch.load(source.path, map_location="cpu", weights_only=True, mmap=True if source.mapped else None)
    except MemoryError:
        raise
    except Exception as error:  # any exception that a hostile file causes
        if number := _system_error(error):
            raise unreadable(OSError(number, os.strerror(number)), source.path) from error
        raise DataError(*_refusal(source.path, error)) from error


def plain_tensor(value: Any, where: str) -> Tensor:
    """`value`, if it is an ordinary tensor whose numbers are all in the file; detached.

    Raises:
        DataError: something else; `where` says what was looked at.
    """
    if isinstance(value, Array):
        value = value.plain()
    if not isinstance(value, Tensor):
        raise DataError(
            f"{where} is a {type(value).__name__}, not a tensor.", "Use a file that holds tensors in lists."
        )
    if value.is_nested or value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        kind = "nested" if value.is_nested else "without data" if value.is_meta else f"{value.dtype}, {value.layout}"
        raise DataError(f"{where} is not a plain dense tensor ({kind}).", "Save it as a dense torch.float32 tensor.")
    tensor = value.detach()
    if tensor.dtype not in TYPES:
        raise DataError(f"{where} has the type {tensor.dtype}, which is not read here.", "Save it as torch.float32.")
    # A tensor can repeat one stored number a billion times; a copy of it then has the billion.
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise DataError(f"{where} claims the shape {tuple(tensor.shape)}, which is more than the file holds.")
    return tensor.to(torch.int64) if tensor.dtype in WIDENED else tensor


def _check_archive(path: Path, size: int, strict: bool) -> None:
    try:
        with open_to_read(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            compressed = any(info.compress_type != zipfile.ZIP_STORED for info in members)
            grown = sum(info.file_size for info in members)
            if (strict and (compressed or grown > size)) or grown > MOST_GROWTH * size:
                raise DataError(
                    f"{path} is a compressed archive, not a file of torch.save.", "Use a file written by torch.save."
                )
            for info in members:
                with archive.open(info) as member:
                    while member.read(PIECE):  # the last read compares the checksum
                        pass
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}).", "Download it again.") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise DataError(f"{path} is damaged: its list of contents points outside.", "Download it again.") from error


def _system_error(error: Exception) -> int:
    """The system's number for a file that PyTorch could not open or map; 0 if it says something else."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"^unable to (?:open|f?stat|mmap|read)\b.*\((\d+)\)", str(error), re.DOTALL)
    return int(found[1]) if found else 0


def _refusal(path: Path, error: Exception) -> tuple[str, str]:
    text = str(error)
    named = re.search(
        r"(?:Unsupported global: GLOBAL|Trying to call reduce for unrecognized function|GLOBAL)\s+(\S+)", text
    )
    if named:
        return (
            f"{path} is refused: it asks to call {named.group(1)}. A buffer or distilled set holds tensors in lists; "
            "no code in the file was run.",
            "If you trust the source, load it and save only its tensors: torch.save([...], path).",
        )
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    first = " ".join((reason[1] if reason else (text.splitlines() or [""])[0]).split())[:160]
    return (
        f"{path} cannot be read as a file of tensors in lists ({type(error).__name__}: {first}).",
        "It may be truncated or another kind of file. No code in it was run.",
    )

"""A zip archive as a tree of pictures, read where it is: nothing is unpacked to the disk."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from engine.data.decoding.pictures import BAD_FILE, decoded, header_of, opened, reason
from engine.data.folders.filenames import kind_of_file
from engine.data.folders.tree import MOST_FILES, MOST_LEVELS, Folder, Tree, digest_of, note
from engine.data.sources import Header
from engine.errors import DataError, UnreadableFileError
from engine.storage.reading import open_to_read
from engine.storage.untrusted import open_regular

MOST_PICTURE = 2**28
"""Bytes of a picture's file, unpacked."""
FIRST = 2**16
"""Bytes that are unpacked to look at a picture's header; all of them if these are too few."""
_LOCAL = struct.Struct("<4s22xHH")
"""The header before each entry: signature, and lengths of name and extra field."""

OTHER_ARCHIVES = {
    b"\x1f\x8b": "tar -xf", b"BZh": "tar -xf", b"\xfd7zXZ\0": "tar -xf", b"(\xb5/\xfd": "tar --zstd -xf",
    b"7z\xbc\xaf'\x1c": "7z x", b"Rar!": "unrar x",
}  # fmt: skip
"""First bytes of archives that are not read, and the command that unpacks them."""


def unpack_command(path: Path) -> str:
    """The command that unpacks an archive that is not read; empty for any other file."""
    with open_regular(path) as file:
        start = file.read(512)
    if start[257:262] == b"ustar":
        return "tar -xf"
    return next((command for magic, command in OTHER_ARCHIVES.items() if start.startswith(magic)), "")


def list_zip(path: Path) -> Tree:
    """The tree in a zip archive.

    Raises:
        DataError: it is damaged or encrypted, or packed in a way that is not read.
    """
    hint = f"Unpack it with `unzip {path.name}`, and set dataset.path to the folder."
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except UnreadableFileError:
        raise
    except Exception as error:  # zipfile raises any exception on a damaged archive
        raise DataError(f"{path} cannot be read as a zip archive ({error}).", "Download it again.") from error
    if len(entries) > MOST_FILES:
        raise DataError(f"{path} has {len(entries):,} entries, more than {MOST_FILES:,}.", hint)
    infos: dict[str, zipfile.ZipInfo] = {}
    tree = Tree(path, Folder(""), _Zip(path, infos))
    folders = {"": tree.root}
    for info in entries:
        name = info.filename.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or len(parts) > MOST_LEVELS:
            tree.aside.setdefault("outside", []).append(name)
        elif parts and not _aside(tree, parts):
            inner = parts if name.endswith("/") else parts[:-1]
            folder = _folder(folders, "/".join(inner))
            if not name.endswith("/"):
                _add(tree, folder, parts[-1], info, infos)
    packed = next((name for name, info in infos.items() if info.flag_bits & 1), None)
    if packed is not None:
        raise DataError(f"{path} is encrypted ({packed}).", hint)
    packed = next((name for name, info in infos.items() if info.compress_type not in (0, 8)), None)
    if packed is not None:
        raise DataError(f"{path} is packed in a way that is not read here ({packed}).", hint)
    _totals(tree.root)
    tree.root.digest = _digest(path)
    return tree


def _digest(path: Path) -> bytes:
    status = path.stat()
    return digest_of([f"{status.st_size}\0{status.st_mtime_ns}"])


def _aside(tree: Tree, parts: list[str]) -> bool:
    """Whether an entry is hidden or the operating system's, or in such a folder, which is noted once."""
    for depth, part in enumerate(parts):
        kind = kind_of_file(part)
        if kind in ("hidden", "system"):
            noted, path = tree.aside.setdefault(kind, []), "/".join(parts[: depth + 1])
            if not noted or noted[-1] != path:
                noted.append(path)
            return True
    return False


def _folder(folders: dict[str, Folder], path: str) -> Folder:
    if path not in folders:
        parent, _, name = path.rpartition("/")
        folders[path] = _folder(folders, parent).folders[name] = Folder(path)
    return folders[path]


def _add(tree: Tree, folder: Folder, name: str, info: zipfile.ZipInfo, infos: dict[str, zipfile.ZipInfo]) -> None:
    path, kind = folder.join(name), kind_of_file(name)
    if path in infos:
        tree.aside.setdefault("replaced", []).append(path)
    else:
        note(folder, name, kind)
    infos[path] = info


def _totals(folder: Folder) -> int:
    folder.total = len(folder.pictures) + sum(_totals(child) for child in folder.folders.values())
    return folder.total


class _Zip:
    """Entries of an archive. Each reading opens the file again, so threads need not wait for each other."""

    def __init__(self, path: Path, infos: dict[str, zipfile.ZipInfo]) -> None:
        self._path, self._infos = path, infos

    def header(self, path: str) -> Header:
        try:
            try:
                return self._header(self._unpack(path, FIRST))
            except Exception:  # Pillow raises any exception; the header may be longer
                return self._header(self._unpack(path, None))
        except Exception as error:
            raise DataError(f"{self._path}/{path} is not a readable image ({reason(error)}).", BAD_FILE) from error

    def picture(self, path: str) -> Any:
        try:
            with opened(io.BytesIO(self._unpack(path, None))) as picture:
                return decoded(picture, upright=True)
        except Exception as error:  # Pillow raises any exception on damaged data
            raise DataError(f"{self._path}/{path} cannot be decoded ({reason(error)}).", BAD_FILE) from error

    def read(self, path: str, most: int) -> bytes:
        if self._infos[path].file_size > most:
            raise ValueError(f"it has {self._infos[path].file_size:,} bytes; at most {most:,} are read")
        return self._unpack(path, None)

    @staticmethod
    def _header(data: bytes) -> Header:
        with opened(io.BytesIO(data)) as picture:
            return header_of(picture)

    def _unpack(self, path: str, first: int | None) -> bytes:
        """The bytes of an entry, or the first of them.

        Raises:
            ValueError: damaged, or larger than it claims or than a picture can be.
        """
        info = self._infos[path]
        size = info.file_size if first is None else min(first, info.file_size)
        if info.file_size > MOST_PICTURE:
            raise ValueError(f"it claims {info.file_size:,} bytes; at most {MOST_PICTURE:,} are unpacked")
        with open_to_read(self._path) as file:
            file.seek(info.header_offset)
            signature, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
            if signature != b"PK\3\4":
                raise ValueError("the archive is damaged")
            file.seek(info.header_offset + _LOCAL.size + name + extra)
            packed = file.read(info.compress_size if first is None else min(first, info.compress_size))
        # Never more than the entry claims, which is bounded: a megabyte of zeros unpacks from a kilobyte.
        data = packed[:size] if info.compress_type == 0 else zlib.decompressobj(-15).decompress(packed, size or 1)
        if first is None and (len(data) != size or zlib.crc32(data) != info.CRC):
            raise ValueError("the archive is damaged: its checksum differs")
        return data

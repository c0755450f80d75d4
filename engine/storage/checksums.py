"""Checksums of an exported folder, in the file that `sha256sum -c SHA256SUMS` reads."""

from pathlib import Path

from engine.storage.atomic import sha256_file
from engine.storage.reading import exists, is_file
from engine.storage.untrusted import read_bounded

SUMS = "SHA256SUMS"
MOST = 2**28
"""Bytes of such a file; a million images take a third of it."""


def folder_sums(folder: Path) -> str:
    """A line for every file in a folder: sha256, two spaces, relative path."""
    inside = sorted(path for path in folder.rglob("*") if is_file(path))
    return "".join(f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in inside)


def sum_problems(folder: Path) -> list[str]:
    """What does not match a folder's SHA256SUMS, as messages; other files belong to the user.

    Raises:
        OSError: there is no such file.
        UnreadableFileError: the system refuses to read one.
    """
    problems = []
    for line in read_bounded(folder / SUMS, MOST).decode(errors="replace").splitlines():
        digest, mark, name = line.partition("  ")
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not mark or len(digest) != 64 or not name or not inside:
            return [f"{folder / SUMS} is damaged"]
        path = folder / name
        if not exists(path):
            problems.append(f"{path} is missing")
        elif not is_file(path) or sha256_file(path) != digest:
            problems.append(f"{path} does not match its checksum")
    return problems or ([] if (folder / SUMS).stat().st_size else [f"{folder / SUMS} is empty"])

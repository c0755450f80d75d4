"""Parquet files on this machine, laid out as the hub lays them out, or as a folder holds them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.data.report import LeftOut
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, file_key
from engine.data.tables.arrow_tables import ParquetTable
from engine.data.tables.configs import choose_config
from engine.data.tables.saved import is_saved, saved_source
from engine.data.tables.shards import shard_notes
from engine.data.tables.source import READING, READS, Tables, TableSplit, open_tables
from engine.errors import DataError, system_reason
from engine.settings.datasets import DatasetFacts

SUFFIXES = (".parquet", ".pq", ".parq")
OTHER_TABLES = {
    ".csv": 'datasets.load_dataset("csv", data_files=...)',
    ".tsv": 'datasets.load_dataset("csv", data_files=..., sep="\\t")',
    ".json": 'datasets.load_dataset("json", data_files=...)',
    ".jsonl": 'datasets.load_dataset("json", data_files=...)',
    ".tar": 'datasets.load_dataset("webdataset", data_files=...)',
    ".arrow": 'datasets.load_dataset("arrow", data_files=...)',
    ".feather": "pyarrow.feather.read_table(file)",
}
"""Formats that hold tables too, and how to read each."""
ABOUT = ("readme.md", "license", "license.txt", "license.md", ".gitattributes", ".gitignore", "dataset_infos.json")
"""Files about a dataset, in lower case, which are no data."""
EXAMPLES = 5


@dataclass
class _Folder:
    """What a folder holds."""

    parquet: list[str] = field(default_factory=list)
    """Relative to it, with `/`."""
    hidden: list[str] = field(default_factory=list)
    """Parquet files in hidden folders, or hidden themselves."""
    links: list[str] = field(default_factory=list)
    """Folders that are symbolic links; they are not entered."""
    others: Counter[str] = field(default_factory=Counter)
    """Other files by suffix."""


def parquet_source(request: DataRequest, facts: DatasetFacts, path: Path) -> Source:
    """A source over a Parquet file, or a folder of them.

    Raises:
        DataError: it holds none; the message says what it holds.
    """
    name = request.name
    if name == "folder":  # in messages, the path says more
        request = replace(request, name=str(path))
    if path.is_dir() and is_saved(path):
        return saved_source(request, facts, path)
    found = look(path) if path.is_dir() else _Folder([path.name])
    if not found.parquet:
        raise DataError(*_nothing(request.name, path, found))
    root = path if path.is_dir() else path.parent
    key = f"parquet-{READING}-{file_key([root / each for each in found.parquet])}"
    what = f"{'Parquet files in' if path.is_dir() else 'the Parquet file'} {path}"
    described = what if name == "folder" else f"{name}, {what}"
    return Source(name, described, key, lambda: _open(request, facts, root, found), reads=READS)


def look(folder: Path) -> _Folder:
    """List a folder once; hidden files, and folders that are links, are told but not used.

    Raises:
        DataError: a folder in it cannot be read.
    """
    found = _Folder()

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename} cannot be read: {system_reason(error)}.",
            "Change its mode with chmod, or run as its owner.",
        ) from error

    for at, folders, files in os.walk(folder, onerror=refuse):
        inside = Path(at).relative_to(folder)
        found.links += [(inside / each).as_posix() for each in folders if (Path(at) / each).is_symlink()]
        folders.sort()
        for each in sorted(files):
            path = inside / each
            if path.suffix.lower() not in SUFFIXES:
                if each.lower() not in ABOUT and not _hidden(path):
                    found.others[path.suffix.lower() or each] += 1
            else:
                (found.hidden if _hidden(path) else found.parquet).append(path.as_posix())
    found.parquet.sort()
    return found


def _hidden(path: Path) -> bool:
    """Whether `datasets` skips a file: it, or a folder, starts with a dot or two underscores."""
    return any(part.startswith(".") for part in path.parts) or any(part.startswith("__") for part in path.parts[:-1])


def _open(request: DataRequest, facts: DatasetFacts, root: Path, found: _Folder) -> OpenSource:
    configured = choose_config(request.name, root, found.parquet, request.config)
    base = root / configured.folder
    splits = {}
    for split in configured.splits.splits:
        table = ParquetTable([base / path for path in split.paths], (root,), configured.types)
        splits[split.name] = TableSplit(table, split.why, split.paths)
    taken = {f"{configured.folder}/{path}".lstrip("/") for split in configured.splits.splits for path in split.paths}
    rest = [path for path in found.parquet if path not in taken]
    notes = [*configured.splits.notes, *shard_notes(sorted(taken))]
    if configured.others and not rest:
        notes.append(f"Other configurations, to choose with dataset.config: {', '.join(configured.others[:20])}.")
    return open_tables(
        Tables(splits, configured.choice, tuple(_left_out(found, rest, configured.others)), tuple(notes)),
        request,
        facts,
    )


def _left_out(found: _Folder, rest: Sequence[str], others: Sequence[str]) -> Iterator[LeftOut]:
    listed = ", ".join(others[:20]) + (", ..." if others[20:] else "")
    for what, paths, reason, setting in (
        ("Parquet file", rest, f"of other configurations ({listed}), or of no split" if others else "in no split, "
         "beside files that are in one", f"dataset.config = {' or '.join(others[:3])}" if others else ""),
        ("hidden Parquet file", found.hidden, "its name, or that of a folder, starts with . or __", ""),
        ("linked folder", found.links, "a symbolic link to a folder is not followed", ""),
    ):  # fmt: skip
        if paths:
            plural = "" if len(paths) == 1 else "s"
            yield LeftOut(f"{len(paths):,} {what}{plural}", len(paths), reason, tuple(paths[:EXAMPLES]), setting)
    if found.others:
        count = found.others.total()
        kinds = tuple(f"{number:,} {suffix}" for suffix, number in found.others.most_common(EXAMPLES))
        yield LeftOut(f"{count:,} other file{'' if count == 1 else 's'}", count, "not Parquet", kinds)


def _nothing(name: str, path: Path, found: _Folder) -> tuple[str, str]:
    """Message and hint for a folder without Parquet files: what it holds, and what to do with that."""
    held = ", ".join(f"{count:,} {suffix}" for suffix, count in found.others.most_common(6))
    if found.hidden:
        held = f"{len(found.hidden):,} hidden Parquet files{', ' if held else ''}{held}"
    message = f"{path} holds no Parquet files for {name}; it holds {f'these files: {held}' if held else 'no files'}."
    for suffix, _ in found.others.most_common():
        if suffix in OTHER_TABLES:
            return message, (
                f"Convert its {suffix} files with the library `datasets`, {OTHER_TABLES[suffix]}, give it a column of "
                "type datasets.Image, write each split with to_parquet, and set dataset.path to those files."
            )
        if suffix == ".zip":
            return message, "Unpack it; for pictures in folders, set dataset.name = folder."
    return message, "Set dataset.path to the folder of a downloaded dataset."

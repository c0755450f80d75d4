"""Folders that `datasets` wrote with `save_to_disk`: Arrow files with their description beside them."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, file_key
from engine.data.tables.arrow_tables import ArrowTable, features_of
from engine.data.tables.source import READING, READS, Tables, TableSplit, open_tables
from engine.errors import DataError, UsageError
from engine.settings.datasets import DatasetFacts


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def saved_source(request: DataRequest, facts: DatasetFacts, folder: Path) -> Source:
    """A source over such a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Source(
        request.name,
        f"{'' if request.name == str(folder) else f'{request.name}, '}saved by datasets in {folder}",
        f"saved-{READING}-{file_key(files)}",
        lambda: _open(request, facts, folder),
        reads=READS,
    )


def _open(request: DataRequest, facts: DatasetFacts, folder: Path) -> OpenSource:
    if request.config is not None:
        raise UsageError(
            f"dataset.config = {request.config}: {folder} has no configurations.", "Remove dataset.config."
        )
    import datasets

    try:
        loaded: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises its own, pyarrow's, and any error of JSON
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        raise DataError(
            f"{folder} was saved by `datasets`, but cannot be opened: {reason}.", "Save it again with save_to_disk."
        ) from error
    parts = loaded if isinstance(loaded, dict) else {"train": loaded}
    why = "a split that was saved" if isinstance(loaded, dict) else "the whole dataset, saved without splits"
    splits = {str(split): TableSplit(library_table(part, (folder,)), why) for split, part in parts.items()}
    return open_tables(Tables(splits), request, facts)


def library_table(part: Any, roots: tuple[Path, ...]) -> ArrowTable:
    """A `datasets.Dataset` as a table; rows that it only points at are gathered.

    Raises:
        DataError: its Arrow files are damaged.
    """
    _check(part.data.table, roots[0])
    if part._indices is not None:
        _check(part._indices.table, roots[0])
        part = part.flatten_indices()
    name = str(part.info.builder_name or part.info.dataset_name or "the dataset")
    return ArrowTable(part.data.table, features_of(part.features.arrow_schema), roots, name)


def _check(table: pa.Table, folder: Path) -> None:
    """Arrow files are mapped into memory and taken at their word: a wrong offset would end the process at a read.

    Raises:
        DataError: an offset, an index or a text is wrong.
    """
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0].rstrip(".")[:200]
        raise DataError(
            f"An Arrow file in {folder} is damaged: {reason}.", "Save the dataset again, or download it again."
        ) from error

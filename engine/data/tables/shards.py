"""Numbered parts of a table, as `train-00000-of-00002.parquet`: which are missing, and which are there twice."""

import re
from collections.abc import Iterable, Iterator

PART = re.compile(r"(?P<table>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>[^/]*)\.[^/.]*")
SHOWN = 3


def shard_notes(paths: Iterable[str]) -> Iterator[str]:
    """What is wrong with the numbers of files that are used together, a sentence per table."""
    tables: dict[str, dict[tuple[int, int], list[str]]] = {}
    for path in paths:
        if match := PART.fullmatch(path):
            part = int(match["number"]), int(match["count"])
            tables.setdefault(match["table"], {}).setdefault(part, []).append(path)
    for table, parts in tables.items():
        counts = sorted({count for _, count in parts})
        twice = [files for files in parts.values() if len(files) > 1]
        if len(counts) > 1:
            numbers = " and ".join(map(str, counts))
            yield (
                f"{table} has files of divisions into {numbers} parts. All are used: if one division replaced the "
                "other, rows are there twice, in the test images too. Then remove the older files."
            )
        elif twice:
            yield (
                f"{' and '.join(sorted(twice[0])[:SHOWN])} are the same part of one table. Both are used: if one is a "
                "copy, its rows are there twice, in the test images too. Then remove it."
            )
        missing = [number for number in range(counts[0]) if (number, counts[0]) not in parts]
        if missing and len(counts) == 1:
            shown = ", ".join(f"{number:05d}" for number in missing[:SHOWN]) + (", ..." if missing[SHOWN:] else "")
            yield (
                f"{len(missing):,} of the {counts[0]:,} files of {table} are missing ({shown}), and so are their rows. "
                "If that is not intended, download them."
            )

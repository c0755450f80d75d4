"""Which split a file belongs to, as Hugging Face `datasets` reads paths, and which splits train and test.

The rules are those of `datasets.data_files`, in their order: the names `data/<split>-00000-of-00001.*`, else the
folders of a path, else file names. Words are whole: `carnival-photos` has no `val`. Three things go beyond the library,
and each is told: letters of either case match, a file is in one split only (the outermost folder decides), and what
matches no split beside files that do is a split of its own, or left over, where the library drops it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

from engine.data.split_roles import ALL, KEYWORDS, NONE, SEPARATOR, WORD, Roles, assign_roles, kind_of, split_words

__all__ = [
    "ALL", "KEYWORDS", "NONE", "FoundSplit", "FoundSplits", "Roles", "assign_roles", "find_splits", "kind_of",
    "split_parents", "split_words",
]  # fmt: skip

SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}[^/]*\.[^/]*")


@dataclass(frozen=True)
class FoundSplit:
    """A split that paths tell of."""

    name: str
    """As `datasets` would call it, or the name of a folder or file that is no split of that library."""
    paths: tuple[str, ...]
    why: str
    """What tells it, for people: `the folder test`."""


@dataclass(frozen=True)
class FoundSplits:
    """The splits of a dataset's files."""

    splits: tuple[FoundSplit, ...]
    """train, validation, test, then the others by name."""
    rest: tuple[str, ...] = ()
    """Paths that are in no split, although others are."""
    notes: tuple[str, ...] = ()
    """Where this differs from what `datasets` would take, a sentence each."""


class _Hit(NamedTuple):
    split: str
    what: str
    """The folder or file name that says so."""
    parent: str
    """The folder it is in."""


def find_splits(paths: Iterable[str], *, file_names: bool = True) -> FoundSplits:
    """Sort a dataset's files into splits.

    Args:
        paths: relative to the dataset's folder, with `/`; only its data, without hidden files.
        file_names: whether names of files tell a split, and not only folders.

    Returns:
        At least one split if there is any path: where no name tells a split, all of it is `train`.
    """
    paths = list(paths)
    sharded = {path: _Hit(match["split"], path, "data") for path in paths if (match := _data_shard(path))}
    if sharded:
        return _sorted(paths, sharded, "file name", {})
    hits = {path: hit for path in paths if (hit := _folder_hit(path))}
    if hits:
        parents = {hit.parent for hit in hits.values()}
        own = {path: hit for path in paths if path not in hits and (hit := _folder_beside(path, parents))}
        return _sorted(paths, hits, "folder", own)
    if not file_names:
        return _sorted(paths, {path: _Hit("train", "", "") for path in paths}, "", {})
    hits = {path: hit for path in paths if (hit := _file_hit(path))}
    names = {path: _Hit(_stem(path), path, "") for path in paths if path not in hits}
    if hits or (paths and all(_shard_hit(path) for path in paths)):
        return _sorted(paths, hits, "file name", names)
    return _sorted(paths, {path: _Hit("train", "", "") for path in paths}, "", {})


def split_parents(paths: Iterable[str]) -> dict[str, set[str]]:
    """The folders that hold splits, each with the names of its splits; a folder `data` counts as what it is in."""
    paths = list(paths)
    hits = [(hit.parent, hit.split) for path in paths if (hit := _folder_hit(path))]
    if not hits:
        hits = [(path.rpartition("/")[0], hit.split) for path in paths if (hit := _file_hit(path) or _shard_hit(path))]
    found: dict[str, set[str]] = {}
    for parent, split in hits:
        above, _, last = parent.rpartition("/")
        found.setdefault(above if last == "data" else parent, set()).add(split)
    return found


def _shard_hit(path: str) -> _Hit | None:
    match = SHARD.fullmatch(path.rpartition("/")[2])
    return _Hit(match["split"], path, "") if match else None


def _data_shard(path: str) -> re.Match[str] | None:
    folder, _, name = path.rpartition("/")
    return SHARD.fullmatch(name) if folder == "data" else None


def _folder_hit(path: str) -> _Hit | None:
    return _deepest(path.rpartition("/")[0])


@cache
def _deepest(folder: str) -> _Hit | None:
    """The outermost folder of a path that names a split; cached, as a dataset has many files in few folders."""
    parts = folder.split("/")
    for depth, part in enumerate(parts):
        words = split_words(part)
        if words:
            return _Hit(words[0] if len(words) == 1 else part, "/".join(parts[: depth + 1]), "/".join(parts[:depth]))
    return None


def _folder_beside(path: str, parents: set[str]) -> _Hit | None:
    """The folder of a path that lies beside folders of splits, the innermost if there are several."""
    parts = path.split("/")[:-1]
    for depth in reversed(range(len(parts))):
        if "/".join(parts[:depth]) in parents:
            return _Hit(parts[depth], "/".join(parts[: depth + 1]), "")
    return None


def _file_hit(path: str) -> _Hit | None:
    name = path.rpartition("/")[2]
    words = split_words(name.rpartition(".")[0]) if "." in name else ()
    if not words:
        return None
    return _Hit(words[0] if len(words) == 1 else _stem(path), path, "")


def _stem(path: str) -> str:
    """A file's name without its number of so many and its suffix."""
    name = PurePosixPath(path).name
    match = SHARD.fullmatch(name)
    return match["split"] if match else PurePosixPath(name).stem


def _sorted(paths: list[str], hits: Mapping[str, _Hit], thing: str, own: Mapping[str, _Hit]) -> FoundSplits:
    grouped: dict[str, list[str]] = {}
    tellers: dict[str, dict[str, None]] = {}
    rest = []
    for path in paths:
        hit = hits.get(path) or own.get(path)
        if hit is None:
            rest.append(path)
            continue
        grouped.setdefault(hit.split, []).append(path)
        tellers.setdefault(hit.split, {})[hit.what] = None
    order = sorted(grouped, key=lambda name: (list(KEYWORDS).index(name) if name in KEYWORDS else 3, name))
    splits = tuple(FoundSplit(name, tuple(grouped[name]), _why(thing, list(tellers[name]))) for name in order)
    return FoundSplits(splits, tuple(rest), tuple(_notes(hits, thing, {hit.split for hit in own.values()})))


def _why(thing: str, tellers: list[str]) -> str:
    if not thing:
        return "no folder or file name tells a split"
    shown = ", ".join(tellers[:3]) + (", ..." if tellers[3:] else "")
    return f"the {thing} {shown}" if len(tellers) == 1 else f"the {thing}s {shown}"


def _notes(hits: Mapping[str, _Hit], thing: str, own: set[str]) -> Iterable[str]:
    """Where `datasets` would take something else."""
    if not thing:
        return
    whats = dict.fromkeys((hit.what.rpartition("/")[2], hit.split) for hit in hits.values())
    for name, split in whats:
        words = [word for word in SEPARATOR.split(name) if word.lower() in WORD]
        if split in KEYWORDS and words and not any(word in WORD for word in words):
            yield f"The {thing} {name} is taken as the split {split}; `datasets` itself does not take capital letters."
        if len(split_words(name)) > 1:
            yield f"The {thing} {name} names several splits, so it is one of its own; `datasets` puts it into each."
    inner = {hit.what for path, hit in hits.items() if thing == "folder" and _inner(path, hit)}
    for folder in sorted(inner)[:3]:
        yield (
            f"In {folder}, inner folders name other splits; the outer folder decides, where `datasets` puts these "
            "files into several splits."
        )
    for name in sorted(own):
        does = f"drops it beside {thing}s that name a split" if hits else "makes it part of train"
        yield f"{name} is a split of its own; `datasets` {does}."


@cache
def _inner_words(folder: str) -> frozenset[str]:
    return frozenset(word for part in folder.split("/") for word in split_words(part))


def _inner(path: str, hit: _Hit) -> bool:
    below = path.rpartition("/")[0][len(hit.what) + 1 :]
    return bool(below) and bool(_inner_words(below) - {hit.split})

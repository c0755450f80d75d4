"""Which split a file belongs to, as Hugging Face `datasets` reads paths, and which splits train and test.

The rules are those of `datasets.data_files`, in their order: the names `data/<split>-00000-of-00001.*`, else the
folders of a path, else file names. Words are whole: `carnival-photos` has no `val`. Three things go beyond the library,
and each is told: letters of either case match, a file is in one split only (the outermost folder decides), and what
matches no split beside files that do is a split of its own, or left over, where the library drops it.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

from engine.errors import UsageError

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words for each split: `datasets.data_files.SPLIT_KEYWORDS`, without importing that library."""
SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
ALL, NONE = "all", "none"
"""Values of `dataset.train_split` and `dataset.test_split` that name no split."""
_WORD = {word: split for split, words in KEYWORDS.items() for word in words}
_SEPARATOR = re.compile(r"[-._ 0-9]+")


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


@cache
def split_words(name: str) -> tuple[str, ...]:
    """The splits whose words are in a name: `train` for `Training_2024`, both for `train-val`, none for `carnival`."""
    return tuple(dict.fromkeys(_WORD[word] for word in _SEPARATOR.split(name.lower()) if word in _WORD))


def kind_of(split: str) -> str:
    """`train`, `validation` or `test` for any spelling of a split's name; any other name as it is."""
    words = split_words(split)
    return words[0] if len(words) == 1 and split.lower() in _WORD else split


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
        words = [word for word in _SEPARATOR.split(name) if word.lower() in _WORD]
        if split in KEYWORDS and words and not any(word in _WORD for word in words):
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
        yield f"{name} is a split of its own; `datasets` drops it beside {thing}s that name a split."


@cache
def _inner_words(folder: str) -> frozenset[str]:
    return frozenset(word for part in folder.split("/") for word in split_words(part))


def _inner(path: str, hit: _Hit) -> bool:
    below = path.rpartition("/")[0][len(hit.what) + 1 :]
    return bool(below) and bool(_inner_words(below) - {hit.split})


# ---------------------------------------------------------------- roles


@dataclass(frozen=True)
class Roles:
    """What each split is used for."""

    train: tuple[str, ...]
    """Splits to train on."""
    test: str | None
    """Split to test on; None: a part of train."""
    why: Mapping[str, str]
    """By the name of every split: why it has that role, or how to use it."""
    notes: tuple[str, ...] = field(default=())
    """What else has to be known, a sentence each."""


def assign_roles(
    names: Sequence[str],
    train_split: str | None,
    test_split: str | None,
    *,
    withheld: Callable[[str], bool] = lambda split: False,
    preferred: str = "",
) -> Roles:
    """Decide which splits train and test.

    Args:
        names: the splits there are.
        train_split: the setting; `all` is every split but the test split that was set.
        test_split: the setting; `none` is a part of train.
        withheld: whether a split has images, but no image has a label. Asked only of test splits that are not set.
        preferred: the test split that is usual for this dataset, tried before `test`.

    Raises:
        UsageError: a setting names no split, both name the same one, or there is no split to train on.
    """
    notes: list[str] = []
    train = _set(names, "train_split", train_split, ALL) if train_split not in (None, ALL) else None
    test = _set(names, "test_split", test_split, NONE) if test_split not in (None, NONE) else None
    why: dict[str, str] = {}
    if train_split == ALL:
        chosen = tuple(name for name in names if name != test)
        why |= dict.fromkeys(chosen, "dataset.train_split = all")
    else:
        train, reason = (train, f"dataset.train_split = {train_split}") if train else _usual_train(names)
        chosen = (train,)
        why[train] = reason
    if not chosen or test in chosen:
        raise UsageError(
            f"The split {test} is to be trained on and tested on.",
            "Set dataset.train_split and dataset.test_split to different splits, or dataset.test_split = none to hold "
            "out a part of the training images.",
        )
    if test is not None:
        why[test] = f"dataset.test_split = {test_split}"
    elif test_split is None and train_split != ALL:
        test, reason = _usual_test([name for name in names if name not in chosen], withheld, preferred, why, notes)
        if test is not None:
            why[test] = reason
    for name in names:
        why.setdefault(name, f"not used; to train on it, set dataset.train_split = {name}")
    return Roles(chosen, test, why, tuple(notes))


def _set(names: Sequence[str], key: str, value: str | None, special: str) -> str:
    """The split that a setting names, by its own name or by another spelling of it."""
    value = value or ""
    if value in names:
        return value
    same = [name for name in names if kind_of(name) == kind_of(value)]
    if len(same) == 1:
        return same[0]
    near = difflib.get_close_matches(value, [*names, special], n=1, cutoff=0.7)
    raise UsageError(
        f"dataset.{key} = {value}: there is no such split. The splits are {', '.join(names)}.",
        (f"Did you mean {near[0]}? " if near else "") + f"Set dataset.{key} to one of them, or to {special}.",
    )


def _usual_train(names: Sequence[str]) -> tuple[str, str]:
    if "train" in names:
        return "train", "the usual split to train on"
    same = [name for name in names if kind_of(name) == "train"]
    if len(same) == 1:
        return same[0], "the usual split to train on"
    if len(names) == 1:
        return names[0], f"there is no split train; {names[0]} is the only one"
    raise UsageError(
        f"There is no split train. The splits are {', '.join(names)}.",
        "Set dataset.train_split to the split to train on, or to all for every image.",
    )


def _usual_test(
    names: Sequence[str], withheld: Callable[[str], bool], preferred: str, why: dict[str, str], notes: list[str]
) -> tuple[str | None, str]:
    """The first of the usual test splits that has labels; why others are skipped goes to `why` and `notes`."""
    wanted = [*((preferred,) if preferred else ()), "test", "validation"]
    order = [name for kind in wanted for name in names if kind in (name, kind_of(name))]
    for name in dict.fromkeys(order):
        if withheld(name):
            why[name] = "not used: its labels are withheld, so it measures nothing"
            notes.append(f"The split {name} cannot be tested on: none of its images has a label.")
        elif name == preferred:
            return name, "the usual split to test this dataset on"
        elif kind_of(name) == "test":
            return name, "the usual split to test on"
        else:
            reason = "no test split has labels" if notes else "there is no split test"
            return name, f"{reason}, so {name} is tested on"
    return None, ""

"""Words for splits, and which of a dataset's splits train and test."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from engine.errors import UsageError

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words for each split: `datasets.data_files.SPLIT_KEYWORDS`, without importing that library."""
ALL, NONE = "all", "none"
"""Values of `dataset.train_split` and `dataset.test_split` that name no split."""
WORD = {word: split for split, words in KEYWORDS.items() for word in words}
SEPARATOR = re.compile(r"[-._ 0-9]+")


@cache
def split_words(name: str) -> tuple[str, ...]:
    """The splits whose words are in a name: `train` for `Training_2024`, both for `train-val`, none for `carnival`."""
    return tuple(dict.fromkeys(WORD[word] for word in SEPARATOR.split(name.lower()) if word in WORD))


def kind_of(split: str) -> str:
    """`train`, `validation` or `test` for any spelling of a split's name; any other name as it is."""
    words = split_words(split)
    return words[0] if len(words) == 1 and split.lower() in WORD else split


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
    if list(names) == ["train"]:
        return "train", "the only split"
    if "train" in names:
        return "train", "the usual split to train on" if names[1:] else "the only split"
    same = [name for name in names if kind_of(name) == "train"]
    if len(same) == 1:
        return same[0], "the usual split to train on"
    if len(names) == 1:
        return names[0], f"there is no split train; {names[0]} is the only one"
    raise UsageError(
        f"There is no split train. The splits are {', '.join(names)}.",
        "Set dataset.train_split to the split to train on, or to all for every image, and dataset.test_split to the "
        "one to test on, if there is one.",
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

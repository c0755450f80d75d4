"""Which split a path belongs to, against the rules of `datasets` itself, and which splits train and test."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.splits import KEYWORDS, FoundSplits, assign_roles, find_splits, kind_of
from engine.errors import UsageError


def found(*paths: str, **arguments: Any) -> dict[str, list[str]]:
    return {split.name: list(split.paths) for split in find_splits(paths, **arguments).splits}


def by_the_library(paths: list[str]) -> dict[str, list[str]]:
    """What `datasets` takes: its own patterns, resolved over a list instead of a disk."""
    from datasets.data_files import _get_data_files_patterns
    from fsspec.utils import glob_translate

    def resolve(pattern: str) -> list[str]:
        expression = re.compile(glob_translate("/" + pattern))
        return [path for path in paths if expression.match("/" + path)]

    patterns = _get_data_files_patterns(resolve)
    return {
        str(split): sorted({path for pattern in wanted for path in resolve(pattern)})
        for split, wanted in patterns.items()
    }


def test_the_words_are_those_of_the_library() -> None:
    from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS

    assert {str(split): tuple(words) for split, words in SPLIT_KEYWORDS.items()} == KEYWORDS
    assert NON_WORDS_CHARS == "-._ 0-9"


PART = st.sampled_from(
    ["train", "training", "val", "valid", "dev", "test", "eval", "a", "carnival", "train2", "my_test", "dev-1", "data",
     "testset", "pictures 1", "x.val", "evaluation_b"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PART, min_size=1, max_size=3), min_size=1, max_size=6, unique_by=tuple))
def test_paths_are_sorted_as_the_library_sorts_them(parts: list[list[str]]) -> None:
    paths = sorted("/".join(each) + ".parquet" for each in parts)
    ours = find_splits(paths)
    mine = {split.name: sorted(split.paths) for split in ours.splits}
    theirs = by_the_library(paths)
    taken = {path for files in theirs.values() for path in files}
    for name, files in mine.items():
        if name in KEYWORDS:
            assert set(files) <= set(theirs.get(name, []))
        else:  # a split of our own: the library drops its files, or puts them into two splits
            assert all(path not in taken or sum(path in files for files in theirs.values()) > 1 for path in files)
    for name, files in theirs.items():
        once = {path for path in files if sum(path in other for other in theirs.values()) == 1}
        assert once <= set(mine.get(name, []))
    assert sorted([path for files in mine.values() for path in files] + list(ours.rest)) == paths


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train.parquet", "test.parquet"], {"train": 1, "test": 1}),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "dev-00000-of-00001.parquet"],
         {"train": 2, "validation": 1}),
        (["data/train-00000-of-00001-0a1b.parquet", "data/dev-00000-of-00001.parquet"], {"dev": 1, "train": 1}),
        (["train/0000.parquet", "test/0000.parquet", "extra/0000.parquet"], {"train": 1, "test": 1, "extra": 1}),
        (["train-00000-of-00001.parquet", "extra-00000-of-00001.parquet", "unsupervised.parquet"],
         {"train": 1, "extra": 1, "unsupervised": 1}),
        (["carnival-photos.parquet"], {"train": 1}),
        (["carnival-photos.parquet", "evaluate.parquet"], {"train": 2}),
        (["train.parquet", "carnival-photos.parquet"], {"train": 1, "carnival-photos": 1}),
        (["Training/cat/1.png", "Testing/cat/1.png"], {"train": 1, "test": 1}),
        (["train_images/a.png", "eval_images/a.png"], {"train": 1, "test": 1}),
        (["random-00000-of-00001.parquet", "extra-00000-of-00001.parquet"], {"random": 1, "extra": 1}),
        (["a.parquet", "b.parquet"], {"train": 2}),
        (["train/train/1.png", "test/train/1.png"], {"train": 1, "test": 1}),
        (["train-val/1.png", "test/1.png"], {"train-val": 1, "test": 1}),
        (["deep/er/train/cat/1.png", "deep/er/val/cat/1.png"], {"train": 1, "validation": 1}),
        ([], {}),
    ],
)  # fmt: skip
def test_splits_of_usual_layouts(paths: list[str], expected: dict[str, int]) -> None:
    assert {name: len(files) for name, files in found(*paths).items()} == expected


def test_reasons_and_differences_are_told() -> None:
    splits = find_splits(["Training/1.png", "test/1.png", "test/eval/1.png", "extra/1.png", "loose.png"])
    assert [(split.name, split.why) for split in splits.splits] == [
        ("train", "the folder Training"),
        ("test", "the folder test"),
        ("extra", "the folder extra"),
    ]
    assert splits.rest == ("loose.png",)
    assert any("Training is taken as the split train" in note for note in splits.notes)
    assert any("extra is a split of its own" in note for note in splits.notes)
    alone = find_splits(["svhn/extra-00000-of-00001.parquet"])
    assert alone.notes == ("extra is a split of its own; `datasets` makes it part of train.",)
    many = find_splits([f"test-{i:05}-of-00009.parquet" for i in range(9)])
    assert many.splits[0].why.startswith("the file names test-00000-of-00009.parquet, test-00001-of-00009.parquet, ")
    assert find_splits(["train/val/1.png", "test/1.png"]).notes[0].startswith("In train, inner folders name")
    assert find_splits(["train/1.png", "test/1.png"]).notes == ()
    assert find_splits(["a/train_1.png", "a/2.png"], file_names=False) == FoundSplits(
        (find_splits(["a/train_1.png", "a/2.png"], file_names=False).splits[0],)
    )


def test_another_spelling_is_the_same_kind() -> None:
    assert [kind_of(name) for name in ("dev", "valid", "Testing", "extra", "train-a", "carnival")] == [
        "validation", "validation", "test", "extra", "train-a", "carnival",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "settings", "train", "test"),
    [
        (["train", "validation", "test"], {}, ["train"], "test"),
        (["train", "valid"], {}, ["train"], "valid"),
        (["train", "dev", "extra"], {}, ["train"], "dev"),
        (["train", "extra"], {}, ["train"], None),
        (["test"], {}, ["test"], None),
        (["pictures"], {}, ["pictures"], None),
        (["training", "test"], {}, ["training"], "test"),
        (["train", "extra", "test"], {"train_split": "extra"}, ["extra"], "test"),
        (["train", "test"], {"train_split": "test"}, ["test"], None),
        (["train", "test"], {"test_split": "none"}, ["train"], None),
        (["train", "test"], {"train_split": "all"}, ["train", "test"], None),
        (["train", "test", "extra"], {"train_split": "all", "test_split": "test"}, ["train", "extra"], "test"),
        (["train", "valid", "test"], {"test_split": "validation"}, ["train"], "valid"),
        (["train", "validation", "test"], {"preferred": "validation"}, ["train"], "validation"),
        (["train", "validation", "test"], {"withheld": lambda name: name == "test"}, ["train"], "validation"),
        (["train", "test"], {"withheld": lambda name: name == "test"}, ["train"], None),
        (["all", "none"], {"train_split": "all"}, ["all", "none"], None),
    ],
)
def test_roles(names: list[str], settings: dict[str, Any], train: list[str], test: str | None) -> None:
    arguments = {"train_split": None, "test_split": None, **settings}
    roles = assign_roles(names, **arguments)
    assert (list(roles.train), roles.test) == (train, test)
    assert set(roles.why) == set(names)


def test_reasons_of_roles() -> None:
    roles = assign_roles(["train", "validation", "test", "extra"], None, None, withheld=lambda name: name == "test")
    assert roles.why["validation"] == "no test split has labels, so validation is tested on"
    assert roles.why["test"] == "not used: its labels are withheld, so it measures nothing"
    assert roles.why["extra"] == "not used; to train on it, set dataset.train_split = extra"
    assert roles.notes == ("The split test cannot be tested on: none of its images has a label.",)


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        (["validation", "test"], {}, r"no split train\. The splits are validation, test\. Set dataset\.train_split"),
        (["train", "test"], {"train_split": "trian"}, r"dataset\.train_split = trian: .*Did you mean train\?"),
        (["train", "test"], {"test_split": "extra"}, r"The splits are train, test\. Set dataset\.test_split .* none"),
        (["train", "test"], {"test_split": "train"}, "The split train is to be trained on and tested on"),
        (["test"], {"train_split": "all", "test_split": "test"}, "The split test is to be trained on and tested on"),
    ],
)
def test_settings_that_name_no_split(names: list[str], settings: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        assign_roles(names, settings.get("train_split"), settings.get("test_split"))

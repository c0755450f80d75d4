"""Local tables: configurations, splits, columns and labels are taken rightly, told, or asked for."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from engine.data.registry import find_source
from engine.data.request import DataRequest
from engine.data.resolve import resolve
from engine.errors import DataError, TeslaError, UsageError
from tests.engine.data.table_files import PICTURE, named, opened, pictures, png, roles, simple, write


def value(source: Any, i: int) -> int:
    return int(np.asarray(source.train.image(i))[0, 0])


# ---------------------------------------------------------------- splits


def test_other_splits_are_never_joined_to_train(tmp_path: Path) -> None:
    for split in ("train", "extra", "test"):
        simple(tmp_path / f"{split}-00000-of-00001.parquet", [0, 1, 0, 1])
    simple(tmp_path / "carnival-photos.parquet", [0, 1])
    found = opened(tmp_path)
    assert roles(found) == {"train": "train", "test": "test", "carnival-photos": "unused", "extra": "unused"}
    assert len(found.train.labels) == 4
    extra = next(split for split in found.listing.splits if split.name == "extra")
    assert extra.why.endswith("set dataset.train_split = extra")
    assert (extra.count, extra.unit) == (4, "rows")
    assert roles(opened(tmp_path, train_split="extra"))["train"] == "unused"
    both = opened(tmp_path, train_split="all")
    assert len(both.train.labels) == 14
    assert both.test is None
    assert len(opened(tmp_path, train_split="all", test_split="test").train.labels) == 10
    assert opened(tmp_path, test_split="none").test is None
    with pytest.raises(UsageError, match=r"Did you mean extra\?"):
        opened(tmp_path, train_split="extr")


def test_rows_of_joined_splits_and_files_are_in_order(tmp_path: Path) -> None:
    simple(tmp_path / "train-00000-of-00002.parquet", [0, 1], first=10)
    simple(tmp_path / "train-00001-of-00002.parquet", [1, 0], first=20)
    simple(tmp_path / "test-00000-of-00001.parquet", [0, 1], first=30)
    found = opened(tmp_path, train_split="all")
    assert [value(found, i) for i in range(6)] == [10, 11, 20, 21, 30, 31]
    assert found.train.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert found.train.name is not None
    assert found.train.name(5) == "someone/pets: image 1 of the split test"


def test_withheld_labels_and_empty_splits_are_passed_over(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1] * 3)
    simple(tmp_path / "validation.parquet", [0, 1])
    simple(tmp_path / "test.parquet", [-1, -1])
    found = opened(tmp_path)
    assert roles(found) == {"train": "train", "validation": "test", "test": "unused"}
    assert any("test cannot be tested on" in note for note in found.listing.notes)
    simple(tmp_path / "test.parquet", pa.array([], pa.int64()))
    assert roles(opened(tmp_path)) == {"train": "train", "validation": "test", "test": "unused"}
    simple(tmp_path / "test.parquet", [-1, 1])  # in part: for the user to decide
    assert roles(opened(tmp_path))["test"] == "test"


def test_a_file_alone_is_the_only_split(tmp_path: Path) -> None:
    path = simple(tmp_path / "test-00000-of-00001.parquet", [0, 1])
    found = opened(path)
    assert roles(found) == {"test": "train"}
    assert "there is no split train" in found.listing.splits[0].why
    simple(tmp_path / "validation.parquet", [0, 1])
    with pytest.raises(UsageError, match=r"no split train.*validation, test.*dataset\.train_split"):
        opened(tmp_path)


# ---------------------------------------------------------------- configurations


def test_folders_side_by_side_have_to_be_chosen_from(tmp_path: Path) -> None:
    for config in ("cropped", "full"):
        for split in ("train", "test"):
            simple(tmp_path / config / split / "0000.parquet", [0, 1], first=len(config))
    with pytest.raises(UsageError, match=r"several configurations: cropped, full\. Set dataset\.config"):
        opened(tmp_path)
    found = opened(tmp_path, config="full")
    assert value(found, 0) == 4
    assert found.listing.config is not None
    assert found.listing.config.value == "full"
    assert found.listing.left_out[0].count == 2
    assert found.listing.left_out[0].setting == "dataset.config = cropped"
    assert len(opened(tmp_path, config="all").train.labels) == 4
    with pytest.raises(UsageError, match=r"Did you mean cropped\?"):
        opened(tmp_path, config="croped")


@pytest.mark.parametrize(
    "paths",
    [
        ["a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet"],
        ["data/a/train-00000-of-00001.parquet", "data/b/train-00000-of-00001.parquet"],
        ["a/data/train-00000-of-00001.parquet", "b/data/train-00000-of-00001.parquet"],
        ["a/0000.parquet", "b/0000.parquet"],
        ["x/y/a/train.parquet", "x/y/b/train.parquet", "x/y/b/test.parquet"],
    ],
)
def test_layouts_with_two_configurations(tmp_path: Path, paths: list[str]) -> None:
    for path in paths:
        simple(tmp_path / path, [0, 1])
    with pytest.raises(UsageError, match=r"several configurations: a, b\."):
        opened(tmp_path)
    assert len(opened(tmp_path, config="a").train.labels) == 2


@pytest.mark.parametrize(
    ("paths", "config"),
    [
        (["default/train/0000.parquet", "default/test/0000.parquet"], "default"),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], None),
        (["train/0000.parquet", "test/0000.parquet", "extra/0000.parquet"], None),
        (["here/train/0000.parquet", "there/test/0000.parquet"], None),
        (["train.parquet", "test.parquet", "data/notes.parquet"], None),
    ],
)
def test_layouts_with_one_configuration(tmp_path: Path, paths: list[str], config: str | None) -> None:
    for path in paths:
        simple(tmp_path / path, [0, 1])
    found = opened(tmp_path)
    assert len(found.train.labels) == 2
    assert found.test is not None
    assert (found.listing.config and found.listing.config.value) == config


@pytest.mark.parametrize(
    "pattern", ["{config}-{split}.parquet", "{split}_{config}.parquet", "data/{split}/{config}.parquet",
                "{config}_{split}-00000-of-00001.parquet"],
)  # fmt: skip
def test_configurations_in_the_names_of_files_have_to_be_chosen_from(tmp_path: Path, pattern: str) -> None:
    for at, config in enumerate(("64x64", "full")):
        for split, more in (("train", 0), ("test", 50)):
            simple(tmp_path / pattern.format(config=config, split=split), [0, 1] * 4, 100 * at + more)
    with pytest.raises(UsageError, match="several configurations: 64x64, full") as error:
        opened(tmp_path)
    assert "dataset.config" in error.value.hint and "all these files together" in error.value.hint
    source = opened(tmp_path, config="full")
    assert source.test is not None
    assert [value(source, i) for i in range(8)] == list(range(100, 108))
    assert [int(np.asarray(source.test.image(i))[0, 0]) for i in range(8)] == list(range(150, 158))
    assert source.listing.config is not None and source.listing.config.why == "dataset.config = full"
    assert source.listing.left_out[0].setting == "dataset.config = 64x64"
    assert len(opened(tmp_path, config="all").train.labels) == 16


@pytest.mark.parametrize(
    "files", [("train-a.parquet", "train-b.parquet", "test.parquet"), ("train_1.parquet", "train_2.parquet"),
              ("train.parquet", "train_more.parquet", "test.parquet")],
)  # fmt: skip
def test_files_that_have_not_all_splits_are_parts_of_one_table(tmp_path: Path, files: tuple[str, ...]) -> None:
    for file in files:
        simple(tmp_path / file, [0, 1] * 4)
    assert len(opened(tmp_path).train.labels) == 16


def test_parts_that_are_missing_or_there_twice_are_told(tmp_path: Path) -> None:
    def notes(*names: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            simple(folder / name, [0, 1] * 4)
        return " ".join(opened(folder).listing.notes)

    test = "test-00000-of-00001.parquet"
    assert notes("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", test) == ""
    assert "1 of the 2 files of train are missing (00001)" in notes("train-00000-of-00002.parquet", test)
    assert "2 of the 3 files of data/train are missing" in notes("data/train-00001-of-00003.parquet")
    twice = notes("data/train-00000-of-00001-aa.parquet", "data/train-00000-of-00001-bb.parquet")
    assert "00001-aa.parquet and data/train-00000-of-00001-bb.parquet are the same part of one table" in twice
    both = notes("train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
    assert "divisions into 1 and 2 parts" in both


def test_a_column_may_tell_the_splits(tmp_path: Path) -> None:
    words = ["train", "Test", "training", "val", "train", "test"] * 3
    simple(tmp_path / "a.parquet", [0, 1, 1, 0] * 3, 0, split=words[:12], note=["train"] * 12)
    simple(tmp_path / "b.parquet", [0, 1, 1, 0, 1, 1], 12, split=words[12:], note=["x"] * 6)
    source = opened(tmp_path, label_column="label")
    assert roles(source) == {"train": "train", "validation": "unused", "test": "test"}
    assert source.listing.splits[0].why.startswith("the column split; ")
    train = [i for i, word in enumerate(words) if word.startswith("train")]
    test = [i for i, word in enumerate(words) if word.lower() == "test"]
    assert [value(source, i) for i in range(len(train))] == train
    assert source.test is not None
    assert [int(np.asarray(source.test.image(i))[0, 0]) for i in range(len(test))] == test
    every = [0, 1, 1, 0] * 3 + [0, 1, 1, 0, 1, 1]
    assert source.train.labels.tolist() == [every[i] for i in train]
    assert source.test.labels.tolist() == [every[i] for i in test]
    assert len(opened(tmp_path, train_split="all").train.labels) == 18


@pytest.mark.parametrize("words", [["train"] * 8, ["train", "red"] * 4, [None, "train", "test", "test"] * 2])
def test_a_column_with_other_values_tells_no_splits(tmp_path: Path, words: list[str | None]) -> None:
    simple(tmp_path / "a.parquet", [0, 1] * 4, split=words)
    assert len(opened(tmp_path, label_column="label").train.labels) == 8


def test_a_file_in_train_and_test_is_refused(tmp_path: Path) -> None:
    simple(tmp_path / "a.parquet", [0, 1] * 4)
    simple(tmp_path / "b.parquet", [0, 1] * 4, 50)
    files = "\n".join(f"  - split: {split}\n    path: '{path}'" for split, path in (("train", "*"), ("test", "a*")))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n")
    with pytest.raises(UsageError, match=r"a\.parquet is in the splits train and test") as error:
        opened(tmp_path)
    assert "dataset.test_split = none" in error.value.hint
    assert opened(tmp_path, test_split="none").test is None


def test_a_backup_beside_the_dataset_is_not_joined_to_it(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1])
    simple(tmp_path / "old" / "train.parquet", [0, 1])
    with pytest.raises(UsageError, match="several configurations: default, old"):
        opened(tmp_path)
    assert len(opened(tmp_path, config="default").train.labels) == 2


README = """---
configs:
- config_name: small
  data_files:
  - split: train
    path: s/*.parquet
- config_name: large
  {default}
  data_files:
  - split: train
    path: ["l/*0.parquet", "/etc/*", "../**", "hf://datasets/x/y/z.parquet"]
  - split: test
    path: l/*1.parquet
---
# About
"""


def test_configurations_of_a_readme(tmp_path: Path) -> None:
    simple(tmp_path / "s" / "a.parquet", [0, 1])
    for number in (0, 1):
        simple(tmp_path / "l" / f"{number}.parquet", [0, 1] * (number + 2))
    (tmp_path / "README.md").write_text(README.format(default=""))
    with pytest.raises(UsageError, match="several configurations: small, large"):
        opened(tmp_path)
    assert len(opened(tmp_path, config="small").train.labels) == 2
    (tmp_path / "README.md").write_text(README.format(default="default: true"))
    found = opened(tmp_path)
    assert roles(found) == {"train": "train", "test": "test"}
    assert len(found.train.labels) == 4
    assert found.listing.config is not None
    assert "default" in found.listing.config.why
    for wrong in ("configs: 5", "configs:\n- config_name: default\n  data_files:\n  - 1.0e+308"):
        (tmp_path / "README.md").write_text(f"---\n{wrong}\n---\n")
        with pytest.raises(DataError, match=r"README\.md cannot be read"):
            opened(tmp_path)


def test_names_of_classes_in_a_readme(tmp_path: Path) -> None:
    """The hub's layout for tables that another tool wrote: the types stand in README.md, or in the older JSON."""
    simple(tmp_path / "train.parquet", [0, 1])
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': cat\n          '1': dog\n---\n"
    )
    found = opened(tmp_path)
    assert found.classes == ("cat", "dog")
    assert [column.kind for column in found.listing.columns] == ["Image", "ClassLabel of 2 names"]
    (tmp_path / "README.md").write_text("# About\n")
    assert opened(tmp_path).classes == ("0", "1")
    (tmp_path / "dataset_infos.json").write_text(json.dumps({"default": {"features": {"label": named("emu", "fox")}}}))
    assert opened(tmp_path).classes == ("emu", "fox")
    (tmp_path / "dataset_infos.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_infos.json cannot be read.*remove it"):
        opened(tmp_path)


def test_a_test_split_without_a_column_of_classes(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", {"image": pictures(3)}, {"image": {"_type": "Image"}})
    assert roles(opened(tmp_path)) == {"train": "train", "test": "unused"}
    with pytest.raises(DataError, match="the split test has no column label; its columns are image"):
        opened(tmp_path, test_split="test")


def test_a_configuration_where_there_are_none(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1])
    with pytest.raises(UsageError, match=r"has no configurations\. Remove dataset\.config"):
        opened(tmp_path, config="full")


# ---------------------------------------------------------------- columns


def test_two_columns_of_images_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.parquet",
        {"image": pictures(2, 5), "mask": pictures(2, 50), "label": [0, 1], "id": ["a", "b"]},
        {"image": {"_type": "Image"}, "mask": {"_type": "Image"}, "label": named("cat", "dog")},
    )
    with pytest.raises(UsageError, match=r"several columns of images: image, mask\. Set dataset\.image_column"):
        opened(path)
    found = opened(path, image_column="mask")
    assert value(found, 1) == 51
    assert [(column.name, column.role) for column in found.listing.columns] == [
        ("image", "unused"), ("mask", "image"), ("label", "label"), ("id", "unused"),
    ]  # fmt: skip
    assert found.listing.columns[2].kind == "ClassLabel of 2 names"
    with pytest.raises(UsageError, match=r"Did you mean mask\?"):
        opened(path, image_column="masc")
    with pytest.raises(UsageError, match=r"dataset\.image_column = id: that column holds string, not images"):
        opened(path, image_column="id")


def test_two_columns_of_classes_have_to_be_chosen_from(tmp_path: Path) -> None:
    columns = {"img": pictures(4), "fine_label": [3, 2, 1, 0], "coarse_label": [0, 1, 0, 1]}
    types = {"img": {"_type": "Image"}, "fine_label": named(*"abcd"), "coarse_label": named("x", "y")}
    path = write(tmp_path / "train.parquet", columns, types)
    with pytest.raises(UsageError, match=r"hold the classes: fine_label, coarse_label\. Set dataset\.label_column"):
        opened(path)
    assert opened(path, label_column="coarse_label").classes == ("x", "y")
    assert opened(path, name="cifar100").classes == tuple("abcd")
    with pytest.raises(UsageError, match="that column holds the images"):
        opened(path, label_column="img")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_are_images_if_they_are_pictures(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(
        tmp_path / "train.parquet",
        {"hash": pa.array([b"0123", b"4567"], kind), "jpg": pa.array([png(7), png(9)], kind), "cls": [0, 1]},
    )
    found = opened(path)
    assert value(found, 1) == 9
    assert [column.name for column in found.listing.columns if column.role == "image"] == ["jpg"]
    assert found.train.file is not None
    assert found.train.file(0) == png(7)
    assert found.train.header is not None
    assert tuple(found.train.header(0))[:2] == ("L", (8, 8))


def test_sound_is_no_image_and_an_image_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    sound = write(tmp_path / "a" / "t.parquet", {"x": pictures(2), "label": [0, 1]}, {"x": {"_type": "Audio"}})
    with pytest.raises(DataError, match=r"no column of images: its columns are x \(Audio\), label \(int64\)"):
        opened(sound)
    paths = write(tmp_path / "b" / "t.parquet", {"file": ["a.png", "b.png"], "label": [0, 1]})
    with pytest.raises(DataError, match=r"The column file holds paths: files that a table names are not opened"):
        opened(paths)
    several = write(tmp_path / "c" / "t.parquet", {"views": [[{"bytes": png(1)}], []], "label": [0, 1]})
    with pytest.raises(DataError, match=r"no column of images.*views \(list of struct.*cast_column"):
        opened(several)


def test_arrays_of_bytes_are_images(tmp_path: Path) -> None:
    pixels = np.arange(2 * 6 * 5 * 3, dtype=np.uint8).reshape(2, 6, 5, 3)
    kind = pa.list_(pa.list_(pa.list_(pa.uint8())))
    path = write(tmp_path / "train.parquet", {"pixels": pa.array(pixels.tolist(), kind), "label": [0, 1]})
    found = opened(path)
    assert np.array_equal(found.train.image(1), pixels[1])
    flat = pa.array(pixels.reshape(2, 3, 5, 6).tolist(), kind)
    strange = opened(write(tmp_path / "other" / "train.parquet", {"pixels": flat, "label": [0, 1]}))
    with pytest.raises(DataError, match=r"image 0 of the split train is not an array of shape"):
        strange.train.image(0)
    boxes = write(
        tmp_path / "c" / "t.parquet", {"image": pictures(2), "boxes": [[[0.0, 1.0]], [[2.0, 3.0]]], "label": [0, 1]}
    )
    assert opened(boxes).listing.columns[1].role == "unused"


def test_no_column_of_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "t.parquet", {"image": pictures(3)})
    with pytest.raises(DataError, match="no column of classes"):
        opened(path)
    path = write(tmp_path / "b" / "t.parquet", {"image": pictures(3), "file_name": ["a", "b", "c"]})
    with pytest.raises(DataError, match="file_name has another value in each of its 3 rows"):
        opened(path)
    path = write(tmp_path / "c" / "t.parquet", {"image": pictures(3), "kind": list("aba"), "place": list("xyx")})
    with pytest.raises(UsageError, match=r"may hold the classes: kind, place\. Set dataset\.label_column"):
        opened(path)
    path = write(tmp_path / "d" / "t.parquet", {"image": pictures(3), "species": list("aba")})
    assert opened(path).listing.columns[1].why == "the only other column that can hold classes"


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (pa.array([1, 0], pa.int8()), ("0", "1"), [1, 0]),
        (pa.array([1, 0], pa.uint64()), ("0", "1"), [1, 0]),
        (pa.array([9, 3, 7]), ("3", "7", "9"), [2, 0, 1]),
        (pa.array([1, 2, 10]), ("1", "2", "10"), [0, 1, 2]),
        (pa.array(["dog", "cat", "Ant"]), ("Ant", "cat", "dog"), [2, 1, 0]),
        (pa.array(["2", "10"]), ("10", "2"), [1, 0]),
        (pa.array(["b", "a"], pa.large_string()), ("a", "b"), [1, 0]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        (pa.array([True, False]), ("False", "True"), [1, 0]),
        (pa.array([1.0, 0.0, None]), ("0", "1"), [1, 0, -1]),
        (pa.array([1, None, 0]), ("0", "1"), [1, -1, 0]),
        (pa.array(["b", None, "a", ""]), ("a", "b"), [1, -1, 0, -1]),
        (pa.array([True, None, False]), ("False", "True"), [1, -1, 0]),
        (pa.array([0, -1, 1]), ("0", "1"), [0, -1, 1]),
        (pa.array([[1], [0], []], pa.list_(pa.int64())), ("0", "1"), [1, 0, -1]),
        (pa.array([[1], None, [0]], pa.list_(pa.int64(), 1)), ("0", "1"), [1, -1, 0]),
        (pa.array([["b"], ["a"]]), ("a", "b"), [1, 0]),
    ],
)
def test_labels_of_every_type(tmp_path: Path, labels: pa.Array, classes: tuple[str, ...], numbers: list[int]) -> None:
    found = opened(simple(tmp_path / "train.parquet", labels))
    assert found.classes == classes
    assert found.train.labels.dtype == np.int64
    assert found.train.labels.tolist() == numbers
    missing = sum(number == -1 for number in numbers) - (-1 in labels.to_pylist())
    assert any(f"{missing:,} rows have no value" in note for note in found.listing.notes) == bool(missing)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (pa.array([[0, 1], [1]]), "holds several classes an image in 1 rows"),
        (pa.array([0.5, 1.0]), "holds numbers such as 0.5, not classes"),
        (pa.array([float("inf"), 1.0]), "holds numbers such as inf"),
        (pa.array([2**64 - 1, 0], pa.uint64()), "cannot be read as classes"),
        (pa.array([{"x": 1}, {"x": 0}]), "holds values of type struct"),
        (pa.array([1, 2], pa.timestamp("s")), r"holds values of type timestamp"),
        (pa.array([b"a", b"b"]), "holds values of type binary"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: pa.Array, words: str) -> None:
    path = simple(tmp_path / "train.parquet", labels)
    with pytest.raises(DataError, match=rf"train\.parquet: the column label {words}.*dataset\.label_column"):
        opened(path, label_column="label")


def test_class_names_are_those_of_the_file_and_unused_ones_stay(tmp_path: Path) -> None:
    types = {"label": named("cat", "dog", "unicorn")}
    path = write(tmp_path / "train.parquet", {"image": pictures(4), "label": [0, 1, 0, 3]}, types)
    found = opened(path)
    assert found.classes == ("cat", "dog", "unicorn")
    assert found.train.labels.tolist() == [0, 1, 0, 3]  # beyond the classes: for dataset.invalid_labels to decide
    assert found.listing.class_order == "the order of the column label, a ClassLabel"
    twice = write(tmp_path / "b" / "t.parquet", {"image": pictures(1), "label": [0]}, {"label": named("a", "a")})
    with pytest.raises(DataError, match="the name 'a' twice"):
        opened(twice)


def test_files_that_number_the_same_classes_otherwise_are_matched_by_name(tmp_path: Path) -> None:
    for split, names, labels in (("train", ("cat", "dog"), [0, 1, -1]), ("test", ("dog", "emu", "cat"), [0, 1, 2, -1])):
        columns = {"image": pictures(len(labels)), "label": labels}
        write(tmp_path / f"{split}.parquet", columns, {"label": named(*names)})
    found = opened(tmp_path)
    assert found.classes == ("cat", "dog", "emu")
    assert found.train.labels.tolist() == [0, 1, -1]
    assert found.test is not None
    assert found.test.labels.tolist() == [1, 2, 0, -1]
    assert any("matched by name" in note for note in found.listing.notes)


def test_types_that_differ_between_files(tmp_path: Path) -> None:
    simple(tmp_path / "train-0.parquet", [0, 1])
    simple(tmp_path / "train-1.parquet", ["cat", "dog"])
    with pytest.raises(DataError, match=r"label holds numbers in .* and texts in "):
        opened(tmp_path)
    simple(tmp_path / "train-1.parquet", pa.array([1, 0], pa.int16()))
    assert opened(tmp_path).train.labels.tolist() == [0, 1, 1, 0]
    write(tmp_path / "train-1.parquet", {"image": pictures(2), "klass": [0, 1]})
    with pytest.raises(DataError, match=r"The column label is missing in .*train-1"):
        opened(tmp_path)


def test_strings_become_classes_through_to_the_end(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", ["dog", "cat"] * 5)
    request = DataRequest("someone/pets", path=tmp_path)
    data = resolve(find_source(request), request)
    assert data.classes == ("cat", "dog")
    assert [(each.name, each.train, each.test) for each in data.report.classes] == [("cat", 4, 1), ("dog", 4, 1)]
    assert "plain string order" in data.report.listing.class_order


# ---------------------------------------------------------------- files


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    simple(tmp_path / "train" / "0.parquet", [0, 1])
    simple(tmp_path / "loose.parquet", [0, 1])
    simple(tmp_path / ".cache" / "train.parquet", [0, 1])
    (tmp_path / "labels.csv").write_text("x")
    (tmp_path / "README.md").write_text("about")
    outside = simple(tmp_path.parent / f"{tmp_path.name}-outside" / "train.parquet", [0, 1])
    (tmp_path / "linked").symlink_to(outside.parent)
    found = {left.what: left.examples for left in opened(tmp_path).listing.left_out}
    assert found == {
        "1 Parquet file": ("loose.parquet",),
        "1 hidden Parquet file": (".cache/train.parquet",),
        "1 linked folder": ("linked",),
        "1 other file": ("1 .csv",),
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.csv": 2, "b.json": 1}, r"these files: 2 \.csv, 1 \.json\. Convert its \.csv files"),
        ({"shard.tar": 3}, r"these files: 3 \.tar\. Convert its \.tar files.*webdataset"),
        ({"a.zip": 1}, r"these files: 1 \.zip\. Unpack it"),
        ({}, r"no files\. Set dataset\.path"),
    ],
)
def test_a_folder_without_parquet_says_what_it_holds(tmp_path: Path, files: dict[str, int], words: str) -> None:
    for name, count in files.items():
        for number in range(count):
            (tmp_path / f"{number}{name}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"holds no Parquet files for someone/pets; it holds {words}"):
        opened(tmp_path)


def test_pictures_instead_of_tables_without_labels_say_how_to_label_them(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.jpg")
    words = r"It has these pictures: 5 in the folder itself\. It must hold one subfolder"
    with pytest.raises(DataError, match=words):
        opened(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = simple(tmp_path / "train.parquet", [0, 1])
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello" * 99, "cut": data[: len(data) // 2]}[damage])
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as a Parquet file"):
        opened(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1]).chmod(0)
    with pytest.raises(DataError, match=r"permission denied.*chmod"):
        opened(tmp_path)


def test_paths_in_rows_open_only_inside_the_dataset(tmp_path: Path) -> None:
    inside = tmp_path / "data"
    (inside / "pictures").mkdir(parents=True)
    (inside / "pictures" / "a.png").write_bytes(png(11))
    (tmp_path / "secret.png").write_bytes(png(22))
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    places = ["pictures/a.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", "none.png"]
    rows = pa.array(
        [{"bytes": None, "path": place} for place in places] + [None, {"bytes": None, "path": None}], PICTURE
    )
    write(inside / "train.parquet", {"image": rows, "label": [0, 1] * 3 + [0]}, {"image": {"_type": "Image"}})
    found = opened(inside)
    assert value(found, 0) == 11
    for i in (1, 2, 3, 4):
        with pytest.raises(DataError, match=rf"image {i} of the split train .* holds a path instead of an image"):
            found.train.image(i)
    for i in (5, 6):
        with pytest.raises(DataError, match=rf"row {i} of the split train has no image"):
            found.train.image(i)


def test_opening_reads_labels_only_and_pictures_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 rows in 40 files: seconds, whatever the pictures weigh; and nothing goes to the cache of `datasets`."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    one = png(5)
    for number in range(40):
        rows = pa.array([{"bytes": one, "path": None}] * 5000, PICTURE)
        path = tmp_path / "data" / f"train-{number:05}-of-00040.parquet"
        write(path, {"image": rows, "label": np.arange(5000) % 10}, row_group_size=1000)
    before = time.monotonic()
    found = opened(tmp_path)
    assert time.monotonic() - before < 20
    assert len(found.train.labels) == 200_000
    assert value(found, 199_999) == 5
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("group", [7, 1000])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_rows_are_the_same_in_any_order_and_from_many_threads(tmp_path: Path, group: int, compression: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import engine.data.tables.arrow_tables as tables

    for number in range(3):
        path = tmp_path / f"train-{number}.parquet"
        rows = pictures(50, 50 * number)
        write(path, {"image": rows, "label": np.arange(50) % 2}, row_group_size=group, compression=compression)
    order = np.random.default_rng(0).permutation(150)
    expected = [int(i) for i in order]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "BLOCK_BYTES", 1000)  # blocks of a few rows
        patched.setattr(tables, "KEPT_BYTES", 3000)
        found = opened(tmp_path)
        assert [value(found, int(i)) for i in order] == expected
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda i: value(found, int(i)), order)) == expected
            assert list(pool.map(lambda i: value(found, i), range(150))) == list(range(150))


# ---------------------------------------------------------------- save_to_disk


@pytest.mark.parametrize("splits", [True, False])
def test_a_folder_of_save_to_disk_opens(tmp_path: Path, splits: bool) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"image": {"bytes": png(i), "path": None}, "label": i % 2} for i in range(8)]
    part = datasets.Dataset.from_list(rows, features=features)
    whole = datasets.DatasetDict({"train": part, "test": part.select(range(2, 4))}) if splits else part
    whole.save_to_disk(str(tmp_path / "saved"))
    Image.new("L", (8, 8)).save(tmp_path / "saved/preview.png")
    assert find_source(DataRequest("folder", path=tmp_path / "saved")).open().classes == ("cat", "dog")
    (tmp_path / "saved/preview.png").unlink()
    found = opened(tmp_path / "saved")
    assert found.classes == ("cat", "dog")
    assert value(found, 3) == 3
    assert roles(found) == ({"train": "train", "test": "test"} if splits else {"train": "train"})
    with pytest.raises(UsageError, match="has no configurations"):
        opened(tmp_path / "saved", config="x")
    next((tmp_path / "saved").rglob("*.arrow")).write_bytes(b"x")
    with pytest.raises(DataError, match="saved by `datasets`, but cannot be opened"):
        opened(tmp_path / "saved")


@pytest.mark.parametrize("where", [2**30, -1])
def test_an_offset_out_of_an_arrow_file_is_damage(tmp_path: Path, where: int) -> None:
    """Read at its word, it would end the process by a signal."""
    import datasets

    pixels = [png(i) for i in range(8)]
    rows = [{"image": {"bytes": data, "path": None}, "label": i % 2} for i, data in enumerate(pixels)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path))
    (file,) = tmp_path.glob("*.arrow")
    offsets = np.cumsum([0, *map(len, pixels)]).astype("<i4")
    wrong = offsets.copy()
    wrong[4] = where
    data = file.read_bytes()
    assert data.count(offsets.tobytes()) == 1
    file.write_bytes(data.replace(offsets.tobytes(), wrong.tobytes()))
    with pytest.raises(DataError, match=r"An Arrow file in .* is damaged: .*offset"):
        opened(tmp_path)


def test_settings_without_a_use_are_refused(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [0, 1])
    request = DataRequest("someone/pets", path=tmp_path, recursive=True)
    with pytest.raises(TeslaError, match="recursive"):
        resolve(find_source(request), request)

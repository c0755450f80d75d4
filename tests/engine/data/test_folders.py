"""Trees of folders: splits, classes and their order, and what is left out; each layout is made and opened."""

import os
import random
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import DataRequest, find_source
from engine.data.sources import natural_key, natural_order
from engine.errors import DataError, TeslaError, UsageError
from tests.engine.data.trees import make, opened, picture, resolved, roles, sizes, told, values


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"), ("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("train", "valid"),
        ("Training_2024", "Testing_2024"), ("flowers-train", "flowers-dev"), ("train", "validation"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["", "data/", "pets/pets/"])
def test_splits_by_the_names_of_folders(tmp_path: Path, train: str, test: str, around: str) -> None:
    make(tmp_path, *(f"{around}{split}/{name}" for split in (train, test) for name in ("cat", "dog")))
    found = opened(tmp_path)
    assert sizes(found) == ({"cat": 5, "dog": 5}, {"cat": 5, "dog": 5})
    assert sorted(roles(found.listing).values()) == ["test", "train"]
    assert any("is taken from the folder" in note for note in found.listing.notes) == bool(around)


def three(root: Path) -> Path:
    make(root, "train/a", "train/b", count=6)
    make(root, "val/a", "val/b", count=4)
    return make(root, "test/a", "test/b", count=3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (12, 6, {"train": "train", "validation": "unused", "test": "test"})),
        ({"test_split": "val"}, (12, 8, {"train": "train", "validation": "test", "test": "unused"})),
        ({"train_split": "validation"}, (8, 6, {"train": "unused", "validation": "train", "test": "test"})),
        ({"train_split": "all"}, (26, None, {"train": "train", "validation": "train", "test": "train"})),
        ({"train_split": "all", "test_split": "test"}, (20, 6, {"train": "train", "validation": "train"})),
        ({"test_split": "none"}, (12, None, {"train": "train", "validation": "unused", "test": "unused"})),
    ],
)
def test_splits_are_chosen(tmp_path: Path, settings: dict[str, str], expected: tuple[int, int | None, dict]) -> None:
    found = opened(three(tmp_path), **settings)
    train, test, which = expected
    assert len(found.train.labels) == train
    assert (None if found.test is None else len(found.test.labels)) == test
    assert which.items() <= roles(found.listing).items()


def test_splits_below_the_classes(tmp_path: Path) -> None:
    make(tmp_path, "cat/train", "cat/test", "dog/train", "dog/test")
    found = opened(tmp_path)
    assert sizes(found) == ({"cat": 5, "dog": 5}, {"cat": 5, "dog": 5})
    assert "The splits are below the classes" in found.listing.notes[0]


@pytest.mark.parametrize(
    ("folders", "words", "way_out", "classes"),
    [
        (("bus", "car", "train"), "train may be a split or a class", {"train_split": "all"}, ("bus", "car", "train")),
        (("a", "b", "test"), "test may be a split or a class", {"train_split": "all"}, ("a", "b", "test")),
        (("bus", "car", "train/x", "train/y"), "train may be", {"train_split": "train"}, ("x", "y")),
        (("val/a", "val/b", "valid/a", "valid/b", "train/a", "train/b"), "several folders for the split validation",
         {"test_split": "valid"}, ("a", "b")),
        (("Train/a", "Train/b", "training/a", "training/b"), "several folders for the split train",
         {"train_split": "training"}, ("a", "b")),
    ],
)  # fmt: skip
def test_what_is_ambiguous_names_the_setting(
    tmp_path: Path, folders: tuple[str, ...], words: str, way_out: dict[str, str], classes: tuple[str, ...]
) -> None:
    make(tmp_path, *folders)
    with pytest.raises(UsageError, match=words) as caught:
        opened(tmp_path)
    for key, value in way_out.items():
        assert f"dataset.{key}" in str(caught.value)
        assert value in str(caught.value)
    assert opened(tmp_path, **way_out).classes == classes


def test_a_class_whose_name_has_a_word_of_a_split(tmp_path: Path) -> None:
    found = opened(make(tmp_path, "beaker", "flask", "test-tube"))
    assert found.classes == ("beaker", "flask", "test-tube")
    assert any("test-tube: taken as a class" in note for note in found.listing.notes)


def test_classes_are_numbered_as_imagefolder_and_images_stay_in_their_order(tmp_path: Path) -> None:
    found = opened(make(tmp_path, *(f"{split}/{n}" for split in ("train", "test") for n in (1, 2, 10)), count=2))
    assert found.classes == ("1", "10", "2")
    assert values(found) == [0, 1, 10, 11, 20, 21]
    assert found.train.labels.tolist() == [0, 0, 2, 2, 1, 1]
    assert found.listing.class_order == "sorted by name, as ImageFolder"
    assert any("dataset.classes" in note and "0.1.0" in note for note in found.listing.notes)
    (tmp_path / "classes.txt").write_text("1\n2\n10\n")
    listed = resolved(tmp_path, classes=tmp_path / "classes.txt")
    assert listed.classes == ("1", "2", "10")
    assert not any("0.1.0" in note for note in listed.report.listing.notes)
    usual = opened(make(tmp_path / "usual", "cat", "dog"))
    assert not any("0.1.0" in note for note in usual.listing.notes)


NAMES = st.lists(st.text("a01٣².9_", max_size=6) | st.integers(0, 99).map(lambda n: f"x_{n}.png"), max_size=12)


@given(NAMES)
def test_the_fast_natural_order_is_the_natural_order(names: list[str]) -> None:
    assert natural_order(names) == sorted(names, key=natural_key)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in (1, 2, 10, 11, 100)]
    orders = []
    for turn in range(3):
        root = tmp_path / str(turn)
        for name in random.Random(turn).sample(names, len(names)):
            for folder in ("a", "b"):
                picture(root / folder / name, int(name[:-4]))
        orders.append(values(opened(root)))
    assert orders[0] == orders[1] == orders[2] == [1, 2, 10, 11, 100] * 2


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    root = make(tmp_path, "cat", "dog")
    picture(root / "loose.png")
    picture(root / "cat" / "deeper" / "x.png")
    picture(root / ".secret" / "x.png")
    picture(root / "cat" / "no-ending", format="PNG")
    (root / "cat" / "broken.png").symlink_to("nowhere")
    (root / "cat" / "circle").symlink_to("..")
    os.mkfifo(root / "dog" / "pipe.png")
    for name in ("cat/.hidden.png", "cat/.DS_Store", "dog/Thumbs.db", "desktop.ini", "dog/._0.png"):
        (root / name).write_bytes(b"x")
    for name in ("README.md", "cat/a.txt", "cat/b.txt", "dog/c.xml", "d.json", "cat/unknown.qqq"):
        (root / name).write_text("x")
    (root / "__MACOSX").mkdir()
    found = opened(root)
    assert sizes(found)[0] == {"cat": 6, "dog": 5}
    assert told(found.listing) == {
        "1 picture": "", "1 deeper picture": "dataset.recursive = true", "1 file": "", "1 .md file": "",
        "2 .txt files": "", "1 .xml file": "", "1 .json file": "", "5 system files": "",
        "2 hidden files and folders": "", "1 broken link": "", "1 link in a circle": "", "1 pipe or device": "",
    }  # fmt: skip
    assert all(left.reason and left.examples for left in found.listing.left_out)
    assert sum(sizes(opened(root, recursive=True))[0].values()) == 12


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "pictures")
    root = make(tmp_path / "root", "cat")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "pictures")
    (tmp_path / "elsewhere" / "pictures" / "back").symlink_to(root)
    found = opened(root)
    assert sizes(found)[0] == {"cat": 5, "dog": 5}
    assert told(found.listing) == {"1 link in a circle": ""}


def test_recursive_takes_deeper_pictures(tmp_path: Path) -> None:
    root = make(tmp_path, "animal/cat", "animal/dog", "vehicle/bus", "vehicle/car/small")
    with pytest.raises(DataError, match=r"'animal'.*has no images.*deeper.*below cat, dog.*recursive = true.*4 lower"):
        opened(root)
    assert sizes(opened(root, recursive=True))[0] == {"animal": 10, "vehicle": 10}


@pytest.mark.parametrize("single", ["images", "jpg"])
def test_one_folder_inside_every_class_is_told(tmp_path: Path, single: str) -> None:
    found = opened(make(tmp_path, f"cat/{single}", f"dog/{single}"))
    assert sizes(found)[0] == {"cat": 5, "dog": 5}
    assert any(f"from its folder {single}" in note for note in found.listing.notes)


def test_an_images_folder_beside_annotations(tmp_path: Path) -> None:
    root = make(tmp_path, "images/cat", "images/dog")
    (root / "annotations").mkdir()
    (root / "annotations" / "1.xml").write_text("<x/>")
    found = opened(root)
    assert found.classes == ("cat", "dog")
    assert told(found.listing) == {"1 .xml file": ""}


def test_pictures_beside_the_splits_are_told(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a", "train/b", "test/a", "test/b", "masks")
    picture(root / "logo.png")
    picture(root / "train" / "sheet.png")
    found = opened(root)
    assert [(left.what, left.reason) for left in found.listing.left_out] == [
        ("1 picture", "beside the folders of the splits"),
        ("5 pictures", "masks is no split"),
        ("1 picture", "beside the class folders, in none of them"),
    ]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda root: (root / "a" / "x.txt").parent.mkdir() or (root / "a" / "x.txt").write_text("x"),
         r"no subfolders with pictures \(files: 1 \.txt; folders: 1\).*one subfolder of pictures per class"),
        (lambda root: make(root, ""), "no subfolders that are classes. It has these pictures: 5 in the folder itself"),
        (lambda root: make(root, "train", "test"), "5 in train; 5 in test.*train_split = all"),
        (lambda root: make(root, "cat"), "only the class 'cat'.*at least two"),
        (lambda root: make(root, "cat", "dog") and (root / "bird").mkdir(), "class 'bird'.*no images.*dataset.classes"),
        (lambda root: make(root, "train/a", "train/b", "test/a"), "same classes: 'b' is in only.*dataset.classes"),
        (lambda root: make(root, "train/a", "train/b", "test"), r"test has 5 pictures.*so test has no labels.*= none"),
        (lambda root: make(root, "train/a", "train/b") and (root / "test").mkdir(), "test has no pictures.*= none"),
        (lambda root: make(root, "train/a", "train/b") and (root / "test" / "a").mkdir(parents=True), "class 'a'"),
        (lambda root: make(root, "a", "b", ending="png") and (root / "a/1.heic").write_bytes(b"ftypheic"),
         r"1\.heic is of a format that is not read.*Convert"),
        (lambda root: make(root, "test/a", "test/b", "dev/a", "dev/b"), "no split train.*dataset.train_split"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_what_is_there(tmp_path: Path, prepare: object, words: str) -> None:
    prepare(tmp_path)  # type: ignore[operator]
    with pytest.raises(TeslaError, match=words):
        opened(tmp_path)


def test_a_file_with_the_classes_settles_what_differs(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a", "train/b", "train/c", "test/a", "test/b")
    (root / "train" / "empty").mkdir()
    listed = tmp_path / "classes.txt"
    listed.write_text("b\na\n")
    found = opened(root, classes=listed)
    assert sizes(found) == ({"a": 5, "b": 5, "c": 5}, {"a": 5, "b": 5, "c": 0})


def test_an_unreadable_folder_is_an_error_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, "cat", "dog", "private")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("private"):  # as root, modes do not hold
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"private cannot be read: permission denied.*chmod"):
        opened(root)
    found = opened(root, on_bad_file="skip")
    assert found.classes == ("cat", "dog")
    assert told(found.listing) == {"1 unreadable folder": ""}


def test_names_that_are_no_text_and_names_that_differ_in_case(tmp_path: Path) -> None:
    root = make(tmp_path, "Cat", "cat", os.fsdecode(b"caf\xe9"))
    found = opened(root)
    assert found.classes == ("Cat", "caf\ufffd", "cat")
    notes = " ".join(found.listing.notes)
    assert "differ only in upper and lower case: Cat, cat" in notes
    assert "not UTF-8" in notes


def test_the_key_changes_with_the_files_and_not_with_a_readme(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a", "train/b", "test/a", "test/b")

    def key(**settings: object) -> str:
        return find_source(DataRequest("folder", path=root, **settings)).key  # type: ignore[arg-type]

    before = key()
    (root / "README.md").write_text("about")
    assert key() == before
    assert key(on_bad_file="skip") != before
    os.utime(root / "train" / "a" / "0.png", (1, 1))
    changed = key()
    assert changed != before
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "9.png")
    assert key() not in (before, changed)


def test_a_folder_of_another_datasets_pictures(tmp_path: Path) -> None:
    root = make(tmp_path, "train/n01", "train/n02", "val/n01", "val/n02", ending="JPEG")
    data = resolved(root, "imagenet")
    assert data.classes == ("n01", "n02")
    assert data.report.source == f"imagenet, folder {root}"
    assert np.array_equal(opened(root, "imagenet").train.labels, np.repeat([0, 1], 5))


def test_imagenets_validation_pictures_without_folders_say_what_is_needed(tmp_path: Path) -> None:
    root = make(tmp_path, "train/n01", "train/n02", "val")
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"val has 5 pictures.*ground_truth\.txt is not read.*metadata\.csv.*= none"):
        opened(root, "imagenet")
    found = opened(root, "imagenet", test_split="none")
    assert sizes(found) == ({"n01": 5, "n02": 5}, None)
    assert roles(found.listing) == {"train": "train", "validation": "unused"}


def test_a_folder_inside_each_split_and_one_around_the_splits_are_told(tmp_path: Path) -> None:
    inner = [f"{split}/{split}/{name}" for split in ("seg_train", "seg_test") for name in ("forest", "sea")]
    make(tmp_path / "inner", *inner, "seg_pred/seg_pred")
    found = opened(tmp_path / "inner")
    assert sizes(found) == ({"forest": 5, "sea": 5}, {"forest": 5, "sea": 5})
    assert "The classes of seg_test are those of seg_test/seg_test, all it holds." in found.listing.notes
    around = opened(make(tmp_path / "around", *(f"train/{s}/{c}" for s in ("train", "test") for c in "ab")))
    assert sizes(around) == ({"a": 5, "b": 5}, {"a": 5, "b": 5})
    classes = opened(make(tmp_path / "vehicles", "train/bus", "train/train"))
    assert classes.classes == ("bus", "train")
    with pytest.raises(DataError, match=r"has no images but in deeper folders: 10 below a, b.*recursive = true"):
        opened(make(tmp_path / "deep", "train/cat/a", "train/cat/b", "train/dog"))


def test_a_folder_that_is_there_twice_by_a_link_is_told(tmp_path: Path) -> None:
    make(tmp_path / "train", "a", "b")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    (tmp_path / "train/self").symlink_to("self")
    found = opened(tmp_path)
    said = [note for note in found.listing.notes if "by a link" in note]
    assert said == ["test, train are one folder, by a link: its pictures are used more than once."]
    assert "2 broken links" in told(found.listing)
    (tmp_path / "test").unlink()
    (tmp_path / "train/c").symlink_to("b")
    assert "train/b, train/c are one folder" in " ".join(opened(tmp_path).listing.notes)


def test_classes_whose_accents_are_encoded_differently_are_told(tmp_path: Path) -> None:
    cafe = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    found = opened(make(tmp_path / "both", *cafe, "tea"))
    assert len(found.classes) == 3
    assert any("only in the encoding of accents" in note for note in found.listing.notes)
    make(tmp_path / "splits", f"train/{cafe[0]}", "train/tea", f"test/{cafe[1]}", "test/tea")
    with pytest.raises(DataError, match=r"do not have the same classes.*only in the encoding.*merge classes"):
        opened(tmp_path / "splits")
    (tmp_path / "merged.txt").write_text(f"{cafe[0]} = coffee\n{cafe[1]} = coffee\ntea\n")
    merged = resolved(tmp_path / "splits", classes=tmp_path / "merged.txt")
    assert [(facts.name, facts.train, facts.test) for facts in merged.report.classes] == [
        ("coffee", 5, 5), ("tea", 5, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["{}.{}.jpg", "{}_{:05}.jpg", "{}{}.jpg", "{} ({}).jpg"])
def test_classes_in_the_names_of_pictures_come_with_the_command_that_sorts_them(tmp_path: Path, pattern: str) -> None:
    for name in ("cat", "dog", "catfish"):
        for i in range(3):
            picture(tmp_path / "train" / pattern.format(name, i), i)
    picture(tmp_path / "test1/1.jpg")
    with pytest.raises(DataError, match="The names begin with cat, catfish, dog") as error:
        opened(tmp_path)
    command = error.value.hint.split("`")[1]
    subprocess.run(command, shell=True, check=True)  # what a user would type
    found = opened(tmp_path / "train")
    assert sizes(found)[0] == {"cat": 3, "catfish": 3, "dog": 3}


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    (tmp_path / "a/x.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/x\.jpg is not a readable image \(it is empty\)"):
        opened(tmp_path)
    (tmp_path / "a/x.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"x\.jpg is not a readable image \(it is not a picture of a known format\)"):
        opened(tmp_path)

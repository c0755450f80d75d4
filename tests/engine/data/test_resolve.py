"""What every source has in common: class lists, images without a class, classes without images, the report."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import DataRequest
from engine.data.class_list import read_class_list
from engine.data.report import DataReport, Listing
from engine.data.resolve import ResolvedData, resolve
from engine.data.sources import OpenSource, Source, SourceSplit
from engine.errors import DataError, UsageError

CLASSES = ("ant", "bee", "cat", "dog")


def split(*labels: int) -> SourceSplit:
    """A split whose image number i is grey i."""
    return SourceSplit(np.array(labels, dtype=np.int64), lambda i: np.full((4, 4), i, dtype=np.uint8))


def resolved(
    train: SourceSplit, test: SourceSplit | None = None, known: tuple[str, ...] = CLASSES, **asked: Any
) -> ResolvedData:
    opened = OpenSource(known, None, None, train, test, Listing(class_order="their names"))
    return resolve(Source("made", "made here", "key", lambda: opened), DataRequest("made", **asked))


def shown(data: ResolvedData, part: str = "train") -> list[tuple[int, str]]:
    """Images and the names of their classes, as they will be decoded."""
    chosen = getattr(data, part)
    return [(int(chosen.split.image(int(i))[0, 0]), data.classes[chosen.split.labels[i]]) for i in chosen.index]


def listed(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "classes.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_class_list_gives_order_names_and_what_is_left_out(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf# three of four\r\ndog = hound\r\n\r\n  ant  # the small one\r\ncat\r\n"
    path = listed(tmp_path, text)
    data = resolved(split(0, 1, 2, 3, 0, 1), split(3, 2, 1, 0), classes=path)
    assert data.classes == ("hound", "ant", "cat")
    assert shown(data) == [(0, "ant"), (2, "cat"), (3, "hound"), (4, "ant")]
    assert shown(data, "test") == [(0, "hound"), (1, "cat"), (3, "ant")]
    report = data.report
    assert [(c.name, c.train, c.test) for c in report.classes] == [("hound", 1, 1), ("ant", 2, 1), ("cat", 1, 1)]
    (left,) = report.listing.left_out
    assert (left.what, left.count, left.examples) == ("1 class with 3 images", 1, ("bee",))
    assert report.listing.notes == ("Renamed by dataset.classes: dog is now hound.",)
    assert "dataset.classes" in report.listing.class_order
    assert report.total == 7


def test_the_test_split_is_a_function_of_the_classes_that_are_left(tmp_path: Path) -> None:
    numbers = [k for k in range(4) for _ in range(10)]
    without = [k for k in numbers if k != 1]
    chosen = resolved(split(*numbers), classes=listed(tmp_path, "ant\ncat\ndog\n"))
    alone = resolved(split(*[k - (k > 1) for k in without]), known=("ant", "cat", "dog"))
    kept = [i for i, k in enumerate(numbers) if k != 1]
    for part in ("train", "test"):
        assert shown(chosen, part) == [(kept[i], name) for i, name in shown(alone, part)]


def test_names_with_signs_are_taken_as_they_are(tmp_path: Path) -> None:
    known = ("a = b", "#1", "C #", "x=y", "caf\u00e9")
    path = listed(tmp_path, "a = b\n#1\nC #\nx=y = z\ncafe\u0301\n# 1\n")
    choice = read_class_list(path, known)
    assert choice.names == ("a = b", "#1", "C #", "z", "caf\u00e9")
    assert choice.numbers.tolist() == [0, 1, 2, 3, 4]


def test_classes_are_merged_only_where_every_line_says_so(tmp_path: Path) -> None:
    path = listed(tmp_path, "ant = insect\nbee = insect\ncat = dog\ndog = cat\n")
    data = resolved(split(0, 1, 2, 3), split(1, 2, 3), classes=path)
    assert shown(data) == [(0, "insect"), (1, "insect"), (2, "dog"), (3, "cat")]
    assert "The class 'insect' is made of 'ant', 'bee' (dataset.classes)." in data.report.listing.notes
    with pytest.raises(UsageError, match=r"'cat' \(line 1\) and 'dog' \(line 2\).*write `cat = cat` on line 1"):
        read_class_list(listed(tmp_path, "cat\ndog = cat\nant"), CLASSES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ant\ncta\n", r"line 2: the dataset has no class 'cta'. Did you mean 'cat'\? It has: ant, bee, cat, dog."),
        ("ant\nbee\n ant\n", "line 3: the class 'ant' is already on line 1"),
        ("ant\n", "only one class"),
        ("ant = x\nbee = x\n", "only one class"),
        ("# nothing\n", "no classes"),
        ("ant =\nbee\n", "line 1: no name after 'ant'"),
        (b"\xff\xfea\0n\0", "not UTF-8"),
    ],
)
def test_a_wrong_class_list_is_refused_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_class_list(listed(tmp_path, text), CLASSES)


def test_a_long_class_list_takes_time_with_its_length(tmp_path: Path) -> None:
    """ImageNet-21k has 20,000 classes; with the square of that, reading their names took 85 s."""
    known = [f"class {i}" for i in range(20_000)]
    path = listed(tmp_path, "\n".join(reversed(known)))
    begun = time.process_time()
    choice = read_class_list(path, known)
    assert time.process_time() - begun < 5
    assert choice.names == tuple(reversed(known)) and choice.numbers[0] == 19_999


def test_a_line_without_an_end_is_refused_at_once(tmp_path: Path) -> None:
    path = listed(tmp_path, "cat\n" + "=" * 10**7)
    begun = time.process_time()
    with pytest.raises(UsageError, match="line 2 has 10,000,000 characters"):
        read_class_list(path, CLASSES)
    assert time.process_time() - begun < 5


def test_names_that_differ_by_a_space_can_both_be_listed(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(" cat\ncat\n  dog\n")
    assert read_class_list(path, ("cat", " cat", "dog")).numbers.tolist() == [1, 0, 2]


def test_a_class_list_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match=r"dataset\.classes = .* cannot be read"):
            read_class_list(path, CLASSES)


def test_images_without_a_valid_class_stop_or_are_left_out() -> None:
    train, test = split(0, -1, 1, 9, 2, 3, -1), split(0, 1, 2, 3, 7)
    with pytest.raises(DataError, match=r"3 of 7 train images.*-1 \(2 images\), 9 \(1 image\).*invalid_labels = drop"):
        resolved(train, test)
    data = resolved(train, test, invalid_labels="drop")
    assert shown(data) == [(0, "ant"), (2, "bee"), (4, "cat"), (5, "dog")]
    assert [item.what for item in data.report.listing.left_out] == [
        "3 train images without a valid class",
        "1 test image without a valid class",
    ]
    assert data.report.listing.left_out[0].examples == ("number 1", "number 3", "number 6")


def test_a_class_without_training_images_is_left_out_and_said() -> None:
    data = resolved(split(0, 2, 3), split(0, 1, 2, 3))
    assert data.classes == ("ant", "cat", "dog")
    assert shown(data, "test") == [(0, "ant"), (2, "cat"), (3, "dog")]
    (left,) = data.report.listing.left_out
    assert (left.what, left.reason, left.examples) == ("1 class with 1 test image", "no training images", ("bee",))
    assert "Classes after 'bee' have other numbers" in data.report.listing.notes[0]
    assert resolved(split(0, 1, 2), split(0, 1, 2)).report.listing.notes == ()  # the last: no number moves


def test_a_listed_class_without_training_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lists 'bee', which has no training images"):
        resolved(split(0, 2), split(0, 2), classes=listed(tmp_path, "ant\nbee\ncat"))


def test_a_class_without_test_images_names_the_ways_out() -> None:
    with pytest.raises(DataError, match=r"'cat' \(and 1 more classes\).*dataset.classes.*dataset.test_split = none"):
        resolved(split(0, 1, 2, 3), split(0, 1))


def test_a_class_with_a_single_image_cannot_be_divided() -> None:
    with pytest.raises(UsageError, match="'cat' has only 1 image and no test set"):
        resolved(split(0, 0, 1, 1, 2, 3, 3))


def test_one_class_is_not_a_dataset() -> None:
    with pytest.raises(DataError, match="only the class 'bee'"):
        resolved(split(1, 1, 1))


def test_what_is_left_out_does_not_decide_about_channels_or_size(tmp_path: Path) -> None:
    def image(i: int) -> Any:
        return np.zeros((8, 8, 3) if i == 0 else (4, 4), dtype=np.uint8)

    source = SourceSplit(np.array([0, 1, 1, 2, 2]), image)
    data = resolved(source, known=("a", "b", "c"), classes=listed(tmp_path, "b\nc"))
    assert (data.channels, data.resolution) == (1, 4)
    assert data.report.modes == {"L": 4}


def test_a_report_survives_json() -> None:
    report = resolved(split(0, 2, 3), split(0, 1, 2, 3)).report
    assert DataReport.from_json(report.to_json()) == report
    for wrong in (None, {}, {**report.to_json(), "looked": "many"}):
        with pytest.raises(ValueError, match=r"."):
            DataReport.from_json(wrong)

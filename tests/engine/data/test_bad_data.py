"""Damage that has to end in words, not in a traceback (or, on a full disk, in a killed process)."""

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from engine.data import DataRequest, Dataset, fit_space, prepare_dataset
from engine.data.decoding.pictures import to_square
from engine.data.sources import natural_key
from engine.errors import DataError, UsageError

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESLA_CACHE", str(tmp_path / "cache"))


def prepared(name: str, **arguments: Any) -> Dataset:
    cache = arguments.pop("cache", None)
    opening = prepare_dataset(DataRequest(name, **arguments), cache=cache)
    while True:
        try:
            next(opening)
        except StopIteration as end:
            return end.value


Parquet = Callable[..., Path]


@pytest.fixture
def parquet(tmp_path: Path) -> Parquet:
    """`parquet(train=[0, 1], test=[-1])` writes one file a split with these labels; row `bad` of train is no image."""

    def png(value: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
        return file.getvalue()

    def make(bad: int | None = None, **splits: list[Any]) -> Path:
        import datasets

        root = tmp_path / "hub"
        root.mkdir()
        for split, labels in splits.items():
            kind = datasets.Value("string") if isinstance(labels[0], str) else datasets.ClassLabel(names=["cat", "dog"])
            rows = [
                {"image": {"bytes": b"no" if i == bad and split == "train" else png(i), "path": None}, "label": label}
                for i, label in enumerate(labels)
            ]
            features = datasets.Features({"image": datasets.Image(), "label": kind})
            datasets.Dataset.from_list(rows, features=features).to_parquet(root / f"{split}-00000-of-00001.parquet")
        return root

    return make


@pytest.mark.slow
def test_imagenet_is_evaluated_on_validation_beside_a_test_split_without_labels(parquet: Parquet) -> None:
    found = prepared("imagenet", path=parquet(train=[0, 1] * 3, validation=[1, 0], test=[-1] * 5))
    assert len(found.train_labels) == 6
    assert found.test_labels.tolist() == [1, 0]


@pytest.mark.slow
def test_only_secret_test_labels_mean_a_part_of_train(parquet: Parquet) -> None:
    found = prepared("someone/pets", path=parquet(train=[0, 1] * 5, test=[-1] * 4))
    assert np.bincount(found.test_labels).tolist() == [1, 1]
    assert np.bincount(found.train_labels).tolist() == [4, 4]


def test_names_instead_of_class_numbers_are_classes(parquet: Parquet) -> None:
    found = prepared("someone/pets", path=parquet(train=["dog", "cat"] * 3, test=["dog", "cat"]))
    assert found.classes == ("cat", "dog")
    assert found.train_labels.tolist() == [1, 0] * 3


def test_a_bad_image_in_parquet_is_named_or_left_out(parquet: Parquet) -> None:
    root = parquet(train=[0, 1] * 4, test=[0, 1], bad=2)
    found = prepared("someone/pets", path=root, on_bad_file="skip")
    assert found.train_labels.tolist() == [0, 1, 1, 0, 1, 0, 1]
    assert [int(image[0, 0, 0]) for image in found.train_images] == [0, 1, 3, 4, 5, 6, 7]
    # What was made by leaving out does not answer for the strict reading.
    with pytest.raises(DataError, match="image 2 of the split train cannot be decoded"):
        prepared("someone/pets", path=root)


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_a_damaged_gzip_stream_is_named(tmp_path: Path) -> None:
    copied = shutil.copytree(FASHION, tmp_path / "idx")
    path = copied / "t10k-labels-idx1-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[40:400] = b"\xff" * 360
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz cannot be read"):
        prepared("fashion-mnist", path=copied)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="cannot reserve room here")
def test_a_full_disk_is_said_before_anything_is_written_through_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(DataError, match=r"Not enough disk space for the decoded images.*TESLA_CACHE"):
            prepared("digits")
    assert list((tmp_path / "cache").rglob("*.npy")) == []
    assert len(prepared("digits").train_labels) > 0


def test_a_file_system_that_cannot_reserve_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    assert len(prepared("digits").train_labels) > 0


@pytest.mark.parametrize(("value", "expected"), [(200, 1), (257 * 7, 7), (65535, 255)])
def test_16_bit_grey_has_one_scale_for_dark_and_light(value: int, expected: int) -> None:
    assert np.unique(to_square(Image.fromarray(np.full((4, 4), value, dtype=np.uint16)), 1, 4)).tolist() == [expected]


def test_natural_order_has_no_ties_and_takes_any_name() -> None:
    names = ["10", "2", "02", "m2\u00b2", "a", "1a", "1"]
    assert len({str(natural_key(name)) for name in names}) == len(names)
    assert sorted(names, key=natural_key) == ["1", "1a", "02", "2", "10", "a", "m2\u00b2"]


def test_zca_says_when_the_machine_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = prepared("digits")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=250_000))
    with pytest.raises(UsageError, match="of memory; this machine has"):
        fit_space(digits, None, True)

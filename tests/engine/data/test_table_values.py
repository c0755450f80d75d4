"""Odd tables: names, types and values that are refused with a way out, doubted, or taken as they are meant."""

import base64
import io
import pathlib
import time
import urllib.request
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.registry import find_source
from engine.data.request import DataRequest
from engine.data.resolve import resolve
from engine.data.tables.labels import class_names
from engine.errors import DataError, UsageError
from engine.settings.overrides import parse_override
from tests.engine.data.table_files import opened, pictures, png, simple, write


def encoded(head: str = "") -> list[str]:
    return [head + base64.b64encode(png(i)).decode() for i in range(4)]


ODD = {
    "base64": (encoded(), "holds pictures as base64 text"),
    "base64 bytes": ([text.encode() for text in encoded()], "holds pictures as base64 text"),
    "data addresses": (encoded("data:image/png;base64,"), "holds pictures as base64 text"),
    "paths": ([f"{i}.PNG" for i in range(4)], "holds paths: files that a table names are not opened"),
    "addresses": ([f"File://{i}" for i in range(4)], "holds addresses: nothing in a table is downloaded"),
    "lists": ([[{"bytes": png(i), "path": None}] for i in range(4)], "holds lists of images; a row must have one"),
    "structs": ([{"data": png(i), "id": i} for i in range(4)], "has no field `bytes`; its fields are data, id"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD)
def test_the_advice_on_a_column_that_is_not_images_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import datasets

    values, sentence = ODD[kind]
    write(tmp_path / "train.parquet", {'my "pic"': values, "label": [0, 1, 0, 1]})
    with pytest.raises(DataError) as refused:
        opened(tmp_path)
    assert sentence in refused.value.message
    # What the hint says, done: the same pictures.
    for i in range(4):
        (tmp_path / f"{i}.PNG").write_bytes(png(i))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(urllib.request, "urlopen", lambda address: io.BytesIO(png(int(address[-1]))))
    code = refused.value.hint.partition("with `datasets`: ")[2].rstrip(".")
    dataset = datasets.Dataset.from_parquet("train.parquet", cache_dir=str(tmp_path / "cache"))
    eval(code, {"dataset": dataset, "datasets": datasets, "base64": base64, "pathlib": pathlib, "urllib": urllib})
    found = opened(tmp_path / "images.parquet")
    assert [found.train.image(i).getpixel((0, 0)) for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([b"RIFF"] * 4, "The first 4 values of x are no pictures."),
        ([None] * 4, "no column of images"),
        (["a cat"] * 4, "no column of images"),
    ],
)
def test_what_is_no_image_at_all(tmp_path: Path, values: list[Any], sentence: str) -> None:
    write(tmp_path / "train.parquet", {"x": values, "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=sentence):
        opened(tmp_path)


def test_columns_with_odd_names(tmp_path: Path) -> None:
    write(
        tmp_path / "train.parquet",
        {"": pictures(4), " ": [0, 1, 0, 1], "2024": ["a", "b", "c", "c"], "\U0001f431": [1, 1, 2, 2]},
    )
    with pytest.raises(UsageError, match=r'classes: " ", 2024, \U0001f431\. Set dataset\.label_column .* = " "\.'):
        opened(tmp_path)
    assert parse_override('dataset.label_column=" "') == ("dataset.label_column", " ")
    assert parse_override("dataset.label_column=2024") == ("dataset.label_column", "2024")
    assert opened(tmp_path, label_column=" ").classes == ("0", "1")
    assert opened(tmp_path, label_column="2024").classes == ("a", "b", "c")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    pq.write_table(
        pa.table([pa.array(pictures(2)), pa.array([0, 1]), pa.array([1, 0])], ["image", "label", "label"]),
        tmp_path / "a.parquet",
    )
    with pytest.raises(DataError, match=r"a\.parquet has several columns named 'label'"):
        opened(tmp_path)


def test_decimal_numbers_are_classes_if_they_are_whole(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [Decimal("1.00"), Decimal("0.00")])
    found = opened(tmp_path)
    assert (found.classes, found.train.labels.tolist()) == (("0", "1"), [1, 0])
    simple(tmp_path / "train.parquet", [Decimal("1.50"), Decimal("0.00")])
    with pytest.raises(DataError, match=r"holds numbers such as 1\.5, not classes"):
        opened(tmp_path)


def test_a_column_without_any_value(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [None, None])
    with pytest.raises(DataError, match="the column label has no value in any of its 2 rows"):
        opened(tmp_path)


def test_ids_and_measurements_are_doubted(tmp_path: Path) -> None:
    simple(tmp_path / "train.parquet", [f"id{i}" for i in range(40)])
    with pytest.raises(DataError, match=r"has no column of classes: label has another value in each of its 40 rows"):
        opened(tmp_path)
    assert len(opened(tmp_path, label_column="label").classes) == 40  # asked for
    simple(tmp_path / "train.parquet", [float(i % 30) for i in range(40)])
    assert "30 different values in 40 rows" in " ".join(opened(tmp_path).listing.notes)
    simple(tmp_path / "train.parquet", [i % 30 for i in range(300)])
    assert opened(tmp_path).listing.notes == ()


def test_a_damaged_part_of_a_file_is_told_before_decoding(tmp_path: Path) -> None:
    for i in range(3):
        simple(tmp_path / f"train-{i}.parquet", [0, 1] * 30, first=i)
    path = tmp_path / "train-1.parquet"
    whole = bytearray(path.read_bytes())
    whole[100:700] = bytes(600)
    path.write_bytes(whole)
    request = DataRequest("someone/pets", tmp_path)
    with pytest.raises(DataError, match=r"60 images of someone/pets cannot be read\. The first: .*train-1\.parquet"):
        resolve(find_source(request), request)
    skipping = replace(request, on_bad_file="skip")
    (kind,) = resolve(find_source(skipping), skipping).report.listing.left_out
    assert (kind.what, kind.reason) == ("60 images", "they cannot be read (dataset.on_bad_file = skip)")


def test_a_name_twice_among_many_is_found_quickly() -> None:
    """The names are a stranger's; with the square of their number, 200,000 of them would take hours."""
    names = [f"class {i}" for i in range(200_000)]
    begun = time.process_time()
    with pytest.raises(ValueError, match="the name 'class 199999' twice"):
        class_names({"_type": "ClassLabel", "names": [*names, names[-1]]})
    assert time.process_time() - begun < 5

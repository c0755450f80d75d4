"""Zip archives read where they are, and Tiny ImageNet's own layout; hostile and unreadable archives are refused."""

import io
import os
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.data import DataRequest, find_source, prepare_dataset
from engine.data.folders.archive import list_zip
from engine.errors import DataError, TeslaError
from engine.runtime.generators import run_to_end
from tests.engine.data.trees import make, opened, picture, roles, sizes, told, values


def zipped(root: Path, path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of a folder's contents."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    return path


def tiny(root: Path) -> Path:
    """Tiny ImageNet's layout with three classes."""
    top = root / "tiny-imagenet-200"
    for k, name in enumerate(("n03", "n01", "n02")):
        for i in range(4):
            picture(top / "train" / name / "images" / f"{name}_{i}.JPEG", 20 * k + i)
        (top / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t1\t1\n")
    for i in range(6):
        picture(top / "val" / "images" / f"val_{i}.JPEG", 100 + i)
        picture(top / "test" / "images" / f"test_{i}.JPEG", 200)
    lines = [f"val_{i}.JPEG\tn0{i % 3 + 1}\t0\t0\t62\t62\n" for i in range(6)]
    (top / "val" / "val_annotations.txt").write_text("".join(lines))
    (top / "wnids.txt").write_text("n03\nn01\nn02\n")
    (top / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\ttench\nn99\tx\n")
    return root


@pytest.mark.parametrize("name", ["folder", "tiny-imagenet"])
@pytest.mark.parametrize("form", ["folder", "inner", "zip"])
def test_tiny_imagenet_as_it_is_downloaded(tmp_path: Path, name: str, form: str) -> None:
    root = tiny(tmp_path / "in")
    places = {"folder": root, "inner": root / "tiny-imagenet-200", "zip": tmp_path / "tiny-imagenet-200.zip"}
    if form == "zip":
        zipped(root, places[form])
    found = opened(places[form], name)
    assert found.classes == ("n01", "n02", "n03")
    assert sizes(found) == (dict.fromkeys(found.classes, 4), dict.fromkeys(found.classes, 2))
    assert found.test is not None and found.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert roles(found.listing) == {"train": "train", "validation": "test", "test": "unused"}
    notes = " ".join(found.listing.notes)
    assert "n01 is goldfish; n02 is tench" in notes
    assert "test cannot be tested on" in notes
    assert "from its folder images" in notes


def test_annotations_that_do_not_fit_are_told(tmp_path: Path) -> None:
    root = tiny(tmp_path)
    path = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("val_5", "val_9"))
    found = opened(root)
    assert told(found.listing).keys() >= {"1 picture", "1 line"}
    path.write_text("val_0.JPEG n01\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 1"):
        opened(root)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_the_same_dataset_as_its_folder(tmp_path: Path, compression: int) -> None:
    root = make(tmp_path / "in", "pets/train/1", "pets/train/10", "pets/train/2", "pets/test/1", "pets/test/10",
                "pets/test/2")  # fmt: skip
    (root / "pets" / ".DS_Store").write_text("x")
    path = zipped(root, tmp_path / "pets.zip", compression)
    ways = [run_to_end(prepare_dataset(DataRequest("folder", path=place), cache=tmp_path / "cache"))
            for place in (root, path)]  # fmt: skip
    assert ways[0].fingerprint == ways[1].fingerprint
    assert ways[0].folder != ways[1].folder
    found = opened(path)
    assert told(found.listing) == {"1 system file": ""}
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda i: int(np.asarray(found.train.image(i % 15))[0, 0]), range(300)))
    assert many == values(found) * 20


def test_entries_that_lead_outside_or_come_twice(tmp_path: Path) -> None:
    path = zipped(make(tmp_path / "in", "cat", "dog"), tmp_path / "a.zip")
    data = (tmp_path / "in" / "cat" / "0.png").read_bytes()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        for name in ("../x.png", "/etc/x.png", "cat/../../y.png", "cat/0.png", ".git/x.png", "__MACOSX/cat/._0.png"):
            archive.writestr(name, data)
    found = opened(path)
    assert sizes(found)[0] == {"cat": 5, "dog": 5}
    assert [left.what for left in found.listing.left_out] == [
        "1 system file", "1 hidden file or folder", "1 entry of the archive", "3 entries of the archive",
    ]  # fmt: skip


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/0.png", "b/0.png"):
            with archive.open(name, "w") as file:
                for _ in range(300):
                    file.write(bytes(2**20))
    with pytest.raises(DataError, match=r"a/0\.png is not a readable image \(it claims 314,572,800 bytes"):
        opened(path)


def test_an_entry_that_lies_about_its_size_is_damaged(tmp_path: Path) -> None:
    path = zipped(make(tmp_path / "in", "cat", "dog"), tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2", data.index(b"cat/0.png") + 60)
    while data[directory + 46 : directory + 55] != b"cat/0.png":
        directory = data.index(b"PK\1\2", directory + 4)
    data[directory + 24 : directory + 28] = struct.pack("<I", 2**24)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cat/0\.png cannot be decoded.*checksum"):
        list_zip(path).reader.picture("cat/0.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read as a zip archive"),
        (lambda data: data.replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\1\0"), "is encrypted.*`unzip"),
        (
            lambda data: data.replace(b"PK\1\2\x14\x03\x14\0\0\0\x08", b"PK\1\2\x14\x03\x14\0\0\0\x0c"),
            "packed in a way",
        ),
        (lambda data: b"", "cannot be read as a zip archive"),
    ],
)
def test_archives_that_cannot_be_read(tmp_path: Path, change: object, words: str) -> None:
    path = zipped(make(tmp_path / "in", "cat", "dog"), tmp_path / "a.zip")
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(TeslaError, match=words):
        opened(path)


@pytest.mark.parametrize(("mode", "ending"), [("w", "tar"), ("w:gz", "tar.gz"), ("w:xz", "tar.xz"), ("w:bz2", "tbz")])
def test_other_archives_say_how_to_unpack_them(tmp_path: Path, mode: str, ending: str) -> None:
    path = tmp_path / f"pets.{ending}"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    with pytest.raises(DataError, match=rf"`tar -xf pets\.{ending}`"):
        find_source(DataRequest("folder", path=path))


def test_a_zip_in_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(TeslaError):
        find_source(DataRequest("folder", path=tmp_path / "a.zip"))


def test_paths_that_begin_with_a_dot_are_paths_of_the_archive(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "a", "b")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in root.rglob("*.png"):
            archive.writestr(f"./{file.parent.name}//{file.name}", file.read_bytes())
        archive.writestr("../c/0.png", b"x")
        archive.writestr("./", b"")
    found = opened(tmp_path / "x.zip")
    assert sizes(found)[0] == {"a": 5, "b": 5}
    assert list(told(found.listing)) == ["1 entry of the archive"]


def test_a_folder_of_archives_says_which_to_unpack(tmp_path: Path) -> None:
    zipped(make(tmp_path / "in", "a", "b"), tmp_path / "train.zip")
    (tmp_path / "sets").mkdir()
    (tmp_path / "train.zip").rename(tmp_path / "sets/train.zip")
    with pytest.raises(DataError, match=r"no subfolders with pictures.*Unpack train\.zip"):
        opened(tmp_path / "sets")


def test_a_damaged_picture_in_a_zip_has_a_message_that_is_the_same_each_time(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "a", "b")
    (root / "a/x.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"a/x\.jpg is not a readable image \(it is not a picture of a known format\)"):
        opened(zipped(root, tmp_path / "x.zip"))

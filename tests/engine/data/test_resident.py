"""Where a split's images live: mapped, read from the file, or on a device; and how much memory that takes."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from engine.data import InputSpace, ResidentImages, fit_space, image_budget, resident, resident_bytes, rows
from engine.errors import CorruptFileError
from tests.engine.data.test_data import prepared


@pytest.mark.parametrize("mapped", [False, True])
def test_rows_are_read_as_they_are_in_the_file(tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_BUFFERS", 3)
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    read = rows.Rows(np.load(tmp_path / "images.npy", mmap_mode="r"), mapped=mapped).read
    for index in ([], [49], [7, 7, 0], [*range(10, 22), 3, 4, 40], np.random.default_rng(1).permutation(50)):
        wanted = np.array(index, dtype=np.int64)
        assert np.array_equal(read(wanted), images[wanted])


def test_parts_and_other_orders_of_a_mapping_are_read_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(images))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    fortran = np.load(tmp_path / "fortran.npy", mmap_mode="r")
    for pixels in (mapped[5:15], mapped[::2], fortran):
        assert np.array_equal(rows.Rows(pixels, mapped=False).read(np.array([3, 1])), np.asarray(pixels)[[3, 1]])


def test_a_call_may_read_less_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    read = rows.Rows(np.load(tmp_path / "images.npy", mmap_mode="r"), mapped=False).read
    whole = os.preadv

    def little(file: int, buffers: list[memoryview], offset: int) -> int:
        return whole(file, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", little)
    assert np.array_equal(read(np.arange(2, 9)), images[2:9])


def test_a_file_that_became_shorter_is_an_error_not_a_crash(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((50, 3, 4, 4), dtype=np.uint8))
    read = rows.Rows(np.load(tmp_path / "images.npy", mmap_mode="r"), mapped=False).read
    os.truncate(tmp_path / "images.npy", 1000)
    with pytest.raises(CorruptFileError, match=r"images.npy is shorter than when it was opened"):
        read(np.array([0, 49]))


def test_reading_a_large_split_leaves_it_out_of_the_process(tmp_path: Path) -> None:
    count, shape = 10_000, (3, 64, 64)
    pixels = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(count, *shape))
    pixels[::1000, 0, 0, 0] = 7
    del pixels
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    space = InputSpace("normalise", {"mean": torch.zeros(3), "std": torch.ones(3)})
    images = ResidentImages(mapped, np.arange(count), space, torch.device("cpu"), budget=count)
    before = psutil.Process().memory_info().rss
    seen = sum(int(images.batch(index)[:, 0, 0, 0].sum()) for index in torch.arange(count).split(256))
    assert seen == 10 * 7
    assert psutil.Process().memory_info().rss - before < count * 12288 / 4


def test_what_is_kept_follows_the_budget() -> None:
    assert image_budget("cpu", 10**12) == 2**30 and image_budget("cpu", 10**9) == 4 * 10**8
    assert image_budget("cuda", 10**12) == 4 * 10**11
    assert image_budget("cpu", 10**9, 20.0) == 20 * 10**9 and image_budget("cuda", 10**9, 0) == 0
    # (on the device, mapped); whitened floats take the place of the bytes.
    assert resident_bytes(100, 100, "cpu") == (0, 100) and resident_bytes(100, 100, "cuda") == (100, 0)
    assert resident_bytes(100, 99, "cpu") == resident_bytes(100, 99, "cuda", 4) == (0, 0)
    assert resident_bytes(100, 400, "cpu", 4) == (400, 0) and resident_bytes(100, 399, "cpu", 4) == (0, 100)


def test_images_reach_a_device_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "PIECE", 7 * 64)
    digits, _ = prepared("digits")
    index = np.arange(3, 900, 2)
    images = ResidentImages(digits.train_images, index, fit_space(digits, None, False), torch.device("cpu"), budget=0)
    assert torch.equal(images._uploaded(), torch.from_numpy(digits.train_images[index]))

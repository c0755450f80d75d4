"""Sources, cache and input space on real small data; every bad input says which file and what to do."""

import io
import multiprocessing
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from engine.data import (
    DataRequest,
    Dataset,
    ResidentImages,
    fit_space,
    prepare_dataset,
    split_holdout,
    verify_cache,
    whitening,
)
from engine.data.decoding.pictures import to_square
from engine.data.rows import Rows
from engine.data.whitening import whitening_bytes
from engine.errors import DataError, TeslaError, UsageError
from engine.events import Event, Notice, Progress
from engine.storage.atomic import read_json

FASHION = Path("/usr/share/datasets/fashion-mnist")


def prepared(name: str, **arguments: Any) -> tuple[Dataset, list[Event]]:
    """A dataset and the events of opening it."""
    cache = arguments.pop("cache", None)
    opening = prepare_dataset(DataRequest(name, **arguments), cache=cache)
    events = []
    while True:
        try:
            events.append(next(opening))
        except StopIteration as end:
            return end.value, events


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESLA_CACHE", str(tmp_path / "cache"))


def picture(value: int, size: tuple[int, int] = (8, 8), mode: str = "L") -> Image.Image:
    rng = np.random.default_rng(value)
    grey = Image.fromarray(rng.integers(0, 255, (size[1], size[0]), dtype=np.uint8))
    return grey.convert(mode)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """`tree("train", "test")` makes a class-per-folder tree with these splits (none: no splits), 6 pictures a class."""

    def make(*splits: str, classes: tuple[str, ...] = ("2", "10"), mode: str = "L", count: int = 6) -> Path:
        root = tmp_path / "pictures"
        for split in splits or ("",):
            for k, name in enumerate(classes):
                folder = root / split / name
                folder.mkdir(parents=True)
                for i in range(count):
                    picture(100 * k + i + (50 if split == "test" else 0), mode=mode).save(folder / f"{i}.png")
        return root

    return make


def test_digits_are_embedded() -> None:
    digits, events = prepared("digits")
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.train_images.shape[1:] == (1, 8, 8)
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    assert len(set(np.unique(digits.train_images))) == 17
    assert np.bincount(digits.test_labels).min() >= 34
    assert any(isinstance(event, Progress) for event in events)


def test_the_cache_is_shared_and_not_decoded_again() -> None:
    first, _ = prepared("digits")
    second, events = prepared("digits")
    assert events == []
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.test_images, second.test_images)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.exists(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_debians_package() -> None:
    fashion, _ = prepared("fashion-mnist")
    assert fashion.train_images.shape == (60000, 1, 28, 28)
    assert np.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert fashion.test_images.shape == (10000, 1, 28, 28)
    assert fashion.classes[7] == "Sneaker"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_mnist_from_idx_files(tmp_path: Path) -> None:
    images = np.arange(20 * 36, dtype=np.uint32).reshape(20, 6, 6).astype(np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    for stem, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        (tmp_path / f"train-{stem}").write_bytes(idx(array))
        (tmp_path / f"t10k-{stem}").write_bytes(idx(array))
    mnist, _ = prepared("mnist", path=tmp_path)
    assert np.array_equal(mnist.train_images[:, 0], images)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images)[:-7])
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        prepared("mnist", path=tmp_path)


def test_parquet_takes_the_hubs_way(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(img=datasets.Image(), fine_label=datasets.ClassLabel(names=["cat", "dog"]))
    for split in ("train", "test"):
        rows = []
        for i in range(8):
            file = io.BytesIO()
            picture(i, mode="RGB").save(file, "PNG")
            rows.append({"img": {"bytes": file.getvalue(), "path": None}, "fine_label": i % 2})
        datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / f"{split}-00000.parquet")
    found, _ = prepared("cifar100", path=tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.train_images.shape == (8, 3, 8, 8)
    assert found.test_labels.tolist() == [0, 1] * 4
    assert np.array_equal(found.train_images[3, 0], np.asarray(picture(3)))


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr("engine.data.tables.hub._reachable", lambda: True)
    with pytest.raises(
        DataError, match=r"cifar10 could not be downloaded.*uoft-cs/cifar10.*Name or service.*dataset\.path"
    ):
        prepared("cifar10")


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_tree_with_splits(tree: Callable[..., Path], split: str) -> None:
    found, _ = prepared("folder", path=tree("train", split))
    assert found.classes == ("10", "2")  # as ImageFolder
    assert found.train_labels.tolist() == [1] * 6 + [0] * 6  # the images are in the order of 0.1.0
    assert (len(found.train_labels), len(found.test_labels)) == (12, 12)
    assert found.channels == 1
    assert np.array_equal(found.train_images[0, 0], np.asarray(picture(0)))


def test_a_tree_without_splits_gets_a_test_part(tree: Callable[..., Path]) -> None:
    root = tree()
    (root / ".hidden").mkdir()
    (root / "2" / ".DS_Store").write_bytes(b"x")
    (root / "README.txt").write_text("about")
    found, _ = prepared("folder", path=root)
    assert np.bincount(found.test_labels).tolist() == [1, 1]
    assert np.bincount(found.train_labels).tolist() == [5, 5]


def test_one_coloured_picture_makes_it_rgb_and_resolution_resizes(tree: Callable[..., Path]) -> None:
    root = tree("train", "test")
    picture(1, (20, 10), "RGB").save(root / "train" / "2" / "colour.png")
    found, _ = prepared("folder", path=root, resolution=4)
    assert found.train_images.shape == (13, 3, 4, 4)
    assert prepared("folder", path=root)[0].resolution == 32  # sizes differ


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_bytes(mode: str, channels: int) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 9), 65535, dtype=np.uint16))
    else:
        image = Image.new("RGB", (9, 6), (255, 255, 255)).convert(mode)
    found = to_square(image, channels, 4)
    assert found.shape == (channels, 4, 4)
    assert found.min() > 250


def test_transparency_is_black() -> None:
    assert to_square(Image.new("RGBA", (4, 4), (255, 255, 255, 0)), 3, 4).max() == 0


def test_shrinking_is_the_area_average() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    expected = pixels.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(to_square(pixels, 1, 4)[0] - expected).max() <= 1  # Pillow rounds after each axis


def break_empty(root: Path) -> None:
    (root / "train" / "empty").mkdir()


def break_text(root: Path) -> None:
    (root / "train" / "2" / "notes.png").write_text("not a picture")


def break_header(root: Path) -> None:
    (root / "train" / "2" / "broken.png").write_bytes(b"\x89PNG\r\n")


def break_body(root: Path) -> None:
    path = root / "train" / "2" / "half.png"
    picture(3, (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-900])


def break_bomb(root: Path) -> None:
    file = io.BytesIO()
    picture(1).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = struct.pack(">II", 60000, 60000)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (root / "train" / "2" / "bomb.png").write_bytes(bytes(data))


def break_classes(root: Path) -> None:
    (root / "test" / "2").rename(root / "test" / "3")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_empty, "class 'empty'.*has no images"),
        (break_text, r"notes\.png is not a readable image.*on_bad_file = skip"),
        (break_header, r"broken\.png"),
        (break_body, r"half\.png cannot be decoded"),
        (break_bomb, r"bomb\.png"),
        (break_classes, "do not have the same classes: '2', '3'"),
    ],
)
def test_bad_trees_are_named_and_leave_nothing(
    tree: Callable[..., Path], tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    root = tree("train", "test")
    damage(root)
    with pytest.raises(DataError, match=words):
        prepared("folder", path=root)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize("damage", [break_text, break_header, break_body, break_bomb])
def test_bad_files_can_be_left_out(tree: Callable[..., Path], damage: Callable[[Path], None]) -> None:
    root = tree("train", "test")
    damage(root)
    found, events = prepared("folder", path=root, resolution=8, on_bad_file="skip")
    assert len(found.train_labels) == 12
    assert len(found.train_images) == 12
    assert np.array_equal(found.train_images[11, 0], np.asarray(picture(105)))
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "skipped" in notices[0]
    assert len(read_json(found.folder / "manifest.json")["left_out"]) == 1


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("folder", "absent", "absent does not exist"),
        ("folder", "file", "file is not a folder"),
        ("folder", "single", "only the class 'a'"),
        ("folder", "nothing", "has no subfolders"),
        ("fashion_mnist", None, "no dataset 'fashion_mnist'.*Did you mean fashion-mnist.*Known: digits"),
        ("cifar10", "nothing", "holds no Parquet files"),
    ],
)
def test_wrong_names_and_paths(tmp_path: Path, name: str, path: str | None, words: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "single" / "a").mkdir(parents=True)
    picture(1).save(tmp_path / "single" / "a" / "x.png")
    with pytest.raises(TeslaError, match=words):
        prepared(name, path=tmp_path / path if path else None)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_cache_is_built_again(damage: str) -> None:
    first, _ = prepared("digits")
    good = np.array(first.train_images)
    path = first.folder / ("manifest.json" if damage == "manifest" else "train_images.npy")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-9])
    assert verify_cache(first.folder)
    again, events = prepared("digits")
    assert any(isinstance(event, Notice) and "damaged" in event.message for event in events)
    assert np.array_equal(again.train_images, good)


def test_a_changed_folder_is_another_entry_and_equal_pixels_are_one_fingerprint(tree: Callable[..., Path]) -> None:
    root = tree("train", "test")
    before, _ = prepared("folder", path=root)
    moved = root.with_name("moved")
    root.rename(moved)
    assert prepared("folder", path=moved)[0].fingerprint == before.fingerprint
    picture(77).save(moved / "train" / "2" / "0.png")
    after, _ = prepared("folder", path=moved)
    assert after.folder != before.folder
    assert after.fingerprint != before.fingerprint


def test_a_stopped_build_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    opening = prepare_dataset(DataRequest("digits"))
    next(opening)
    opening.close()
    assert list((tmp_path / "cache" / "datasets").glob("*/manifest.json")) == []
    assert len(prepared("digits")[0].train_labels) > 0


def _decode(cache: str, answers: "multiprocessing.Queue[int]") -> None:
    import os

    os.environ["TESLA_CACHE"] = cache
    told = [event.detail for event in prepared("digits")[1] if isinstance(event, Progress)]
    answers.put(sum(detail.startswith("decoding") for detail in told))


@pytest.mark.slow
def test_two_processes_decode_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_decode, args=(str(tmp_path / "shared"), answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    counts = sorted(answers.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert counts[0] == 0
    assert counts[1] > 0


def test_holdout_is_by_class_and_counted() -> None:
    labels = np.repeat(np.arange(3), (20, 30, 2))
    kept, held = split_holdout(labels, 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [2, 3, 1]
    assert sorted([*kept, *held]) == list(range(52))
    assert np.array_equal(held, split_holdout(labels, 0.1, seed=0)[1])
    assert not np.array_equal(held, split_holdout(labels, 0.1, seed=1)[1])
    assert len(split_holdout(labels, 0.0, seed=0)[1]) == 0
    with pytest.raises(UsageError, match=r"'dog' has only 1 image left to train on, .* dataset.holdout = 0\.1"):
        split_holdout(np.array([0, 0, 1]), 0.1, 0, ("cat", "dog"))


@pytest.mark.parametrize("zca", [False, True])
def test_decode_inverts_encode(zca: bool) -> None:
    digits, _ = prepared("digits")
    space = fit_space(digits, None, zca)
    images = torch.from_numpy(np.array(digits.test_images[:50]))
    back = space.decode(space.encode(images))
    assert (back - images / 255).abs().max() < 1e-5
    again = fit_space(digits, None, zca)
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in space.tensors().items())


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    digits, _ = prepared("digits")
    encoded = fit_space(digits, None, False).encode(torch.from_numpy(np.array(digits.train_images)))
    assert abs(encoded.mean()) < 1e-4
    assert abs(encoded.std() - 1) < 1e-3


def test_zca_is_kornias() -> None:
    from kornia.enhance import ZCAWhitening

    digits, _ = prepared("digits")
    train = torch.from_numpy(np.array(digits.train_images)).float() / 255
    expected = ZCAWhitening(dim=0, eps=0.1, compute_inv=True).fit(train)(train[:20])
    found = fit_space(digits, None, True).encode(torch.from_numpy(np.array(digits.train_images[:20])))
    assert torch.allclose(found, expected, atol=1e-5)


def test_zca_of_large_images_is_kornias_too(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, _ = prepared("digits")
    index = np.arange(5, 1200)
    rows = Rows(digits.train_images, mapped=False)
    expected = whitening.fit_whitening(rows, index)
    monkeypatch.setattr(whitening, "KORNIAS", 63)
    monkeypatch.setattr(whitening, "CHUNK", 500)  # the last one is short
    found = whitening.fit_whitening(rows, index)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape and tensor.dtype is torch.float32
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["matrix"] @ found["inverse"], torch.eye(64), rtol=0, atol=1e-4)


def test_zca_refuses_images_beyond_its_bound(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tree("train", "test", mode="RGB")
    large, _ = prepared("folder", path=pictures, resolution=74)
    with pytest.raises(UsageError, match="16428 x 16428 numbers") as caught:
        fit_space(large, None, True)
    assert "at most 16,384" in (caught.value.hint or "")
    # 64x64 RGB is within it: what is refused is a machine too small for it.
    imagenet, _ = prepared("folder", path=pictures, resolution=64)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2_000_000_000))
    with pytest.raises(UsageError, match=r"of memory; this machine has 2\.0 GB"):
        fit_space(imagenet, None, True)
    # Whatever the number of images; Kornia would need 8 bytes a number of all of them.
    assert whitening_bytes(10, 12_288) == whitening_bytes(100_000, 12_288) < 4e9 < 8 * 100_000 * 12_288


@pytest.mark.parametrize("zca", [False, True])
def test_images_are_the_same_wherever_they_live(zca: bool) -> None:
    digits, _ = prepared("digits")
    space = fit_space(digits, None, zca)
    index = np.arange(3, 900)
    cpu = torch.device("cpu")
    resident = ResidentImages(digits.train_images, index, space, cpu)
    mapped = ResidentImages(digits.train_images, index, space, cpu, budget=0)
    wanted = torch.tensor([5, 0, 896, 5, 17])
    assert torch.equal(resident.batch(wanted), torch.from_numpy(digits.train_images[index[wanted.numpy()]]))
    assert torch.equal(resident.batch(wanted), mapped.batch(wanted))
    assert torch.allclose(resident.encoded(wanted), mapped.encoded(wanted), atol=1e-5)

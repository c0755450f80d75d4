"""Distilled sets as pictures, exports of this program, and hostile files: what is read, and what is never run."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import DataError, UsageError
from engine.runs.gallery import decoded_images
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.exchange.export import exporting
from engine.tools.exchange.import_images import Wanted, import_images, prepare_images
from tests.conftest import TINY
from tests.engine.tools.exchange.test_import_images import CLASSES, ONE_HOT, X, Y, imported, report, saved


def pictures(
    folder: Path, name: Callable[[int], str], count: Callable[[int], int] = lambda k: 2, side: int = 8
) -> Path:
    """Pictures whose grey is their class's."""
    for k in range(CLASSES):
        (folder / name(k)).mkdir(parents=True)
        for i in range(count(k)):
            grey = np.full((side, side, 3), 20 * k + i, dtype=np.uint8)
            Image.fromarray(grey).save(folder / name(k) / f"class{k:03d}_id{i:03d}.png")
    return folder


@pytest.mark.parametrize("name", ["new{:03d}", "{:05d}", "{}", "{0}-{0}"])
def test_pictures_in_class_folders(workspace: Workspace, tmp_path: Path, name: str) -> None:
    folder = pictures(tmp_path / "syn", name.format)
    (folder / "README.txt").write_text("x")
    (folder / name.format(3) / "notes.txt").write_text("x")
    found = report(workspace, folder)
    assert (found.count, found.ipc, found.space) == (20, 2, "pixels")
    assert any("notes.txt: not a picture" in words for words in found.left_out)
    assert any("README.txt" in words for words in found.left_out)
    run, tensors = imported(workspace, folder)
    assert decoded_images(workspace, run, 0).pixels[:, 0, 0, 0].tolist() == [
        20 * k + i for k in range(10) for i in (0, 1)
    ]
    assert torch.equal(tensors["labels"], ONE_HOT)


def test_pictures_of_other_sizes_and_counts(workspace: Workspace, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "syn", "{:05d}".format, lambda k: 3 if k == 7 else 2, side=20)
    with pytest.raises(DataError, match=r"class 0 has 2 images and class 7 has 3.*--per-class 2"):
        imported(workspace, folder)
    found = report(workspace, folder, per_class=2)
    assert any("20x20 were brought to 8x8" in words for words in found.left_out)
    assert any("soft labels per epoch" in words for words in found.left_out)
    (folder / "00003" / "class003_id000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"class003_id000.png cannot be decoded"):
        imported(workspace, folder)


def test_folders_that_do_not_fit(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no distilled set"):
        imported(workspace, tmp_path)
    folder = pictures(tmp_path / "syn", "n{:08d}x".format)
    with pytest.raises(DataError, match=r"names the class 'n00000000x'.*--classes FILE"):
        imported(workspace, folder)
    (tmp_path / "order.txt").write_text("\n".join(map(str, range(10))))
    assert torch.equal(imported(workspace, folder, classes=str(tmp_path / "order.txt"))[1]["labels"], ONE_HOT)
    short = pictures(tmp_path / "short", "{:05d}".format)
    for path in (short / "00004").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="00004 has no pictures"):
        imported(workspace, short, "y")
    (short / "00004").rmdir()
    with pytest.raises(DataError, match="no folder for class number 4"):
        imported(workspace, short, "y")


def test_labels_of_single_epochs_are_refused_by_name(workspace: Workspace, tmp_path: Path) -> None:
    fkd = tmp_path / "FKD"
    (fkd / "epoch_0").mkdir(parents=True)
    batch = [torch.rand(20, 4), torch.zeros(20), torch.arange(20), 0.5, [0, 0, 4, 4], torch.randn(20, CLASSES)]
    torch.save(batch, fkd / "epoch_0" / "batch_0.tar")
    torch.save(batch, tmp_path / "renamed.pt")
    folder = pictures(tmp_path / "syn", "new{:03d}".format)
    for images, labels in (
        (folder, fkd),
        (fkd, None),
        (fkd / "epoch_0/batch_0.tar", None),
        (tmp_path / "renamed.pt", None),
    ):
        with pytest.raises(DataError, match=r"holds FKD labels.*Import the folder of pictures alone"):
            imported(workspace, images, labels=labels)


def test_an_export_comes_back_from_each_of_its_forms(workspace: Workspace, tmp_path: Path) -> None:
    soft = torch.randn((20, CLASSES), generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    run, tensors = imported(workspace, saved(tmp_path, [X / 4, soft]))
    out = tmp_path / "out"
    run_to_end(exporting(workspace, run, out))
    whole = imported(workspace, out, "folder", lr=None)[1]
    assert all(torch.equal(whole[name], tensors[name]) for name in ("images", "labels", "student_lr"))
    found = run_to_end(prepare_images(workspace, "y", Wanted(out), TINY)).report
    assert (found.space, found.student_lr_from) == ("normalised", "from recipe.json")
    parquet = imported(workspace, out / "data", "parquet")[1]
    torch.testing.assert_close(parquet["labels"], tensors["labels"])
    seen = imported(workspace, out / "images", "pictures")[1]["images"]
    torch.testing.assert_close(parquet["images"], seen)
    shown = decoded_images(workspace, run, 0).pixels
    assert np.array_equal(decoded_images(workspace, workspace.run("parquet"), 0).pixels, shown)
    # Another input space: through pixels.
    overrides = (*TINY, "dataset.zca=true")
    run_to_end(import_images(workspace, "zca", Wanted(out), overrides))
    close = decoded_images(workspace, workspace.run("zca"), 0).pixels.astype(int) - shown
    assert abs(close).max() <= 1


def test_a_space_that_the_run_does_not_have_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    run, _ = imported(workspace, saved(tmp_path, [X, Y]))
    run_to_end(exporting(workspace, run, tmp_path / "pt", layout="pt"))
    wanted = Wanted(tmp_path / "pt")
    with pytest.raises(UsageError, match=r"are normalised, and dataset.zca = true makes this run's whitened"):
        run_to_end(prepare_images(workspace, "y", wanted, (*TINY, "dataset.zca=true")))


class Runs:
    """Runs code when a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def array_state(shape: Any, code: str, raw: Any, *, structured: bool = False) -> bytes:
    """A file of `torch.save`'s old format whose pickle holds an array of numpy's, by hand."""
    array = np.zeros(4, dtype=code if code != "O" else object)
    kind, arguments, state = array.__reduce__()  # type: ignore[misc]
    dtype = np.dtype([("a", "f4")]) if structured else np.dtype(code)

    class Built:
        def __reduce__(self) -> Any:
            return kind, arguments, (state[0], shape, dtype, False, raw)

    file = io.BytesIO()
    torch.save({"images": Built(), "labels": Y}, file)
    return file.getvalue()


def test_nothing_in_a_file_is_run(workspace: Workspace, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    for name, value in {"images": {"images": X, "labels": Runs(owned)}, "array": np.array([Runs(owned)])}.items():
        with pytest.raises(DataError):
            imported(workspace, saved(tmp_path, value, f"{name}.pt"))
    np.save(tmp_path / "object.npy", np.array([Runs(owned)], dtype=object))
    with pytest.raises(DataError, match="cannot be read as arrays"):
        imported(workspace, tmp_path / "object.npy")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"images": Runs(owned)}))
    with pytest.raises(DataError, match=r"plain.pkl cannot be read|is refused"):
        imported(workspace, tmp_path / "plain.pkl")
    assert not owned.exists()
    assert not workspace.run("x").folder.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array_state((10**9,), "f4", b"\0" * 16), "bytes"),
        (array_state((-1, -4), "f4", b"\0" * 16), "shape"),
        (array_state((4,), "O", [1, 2, 3, 4]), "not one of numbers"),
        (array_state((4,), "f4", b"\0" * 16, structured=True), "structured|not one of numbers"),
        (array_state((4,), "f4", "text"), "not one of numbers"),
    ],
)
def test_arrays_that_lie_are_refused(workspace: Workspace, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "set.pt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        imported(workspace, tmp_path / "set.pt")

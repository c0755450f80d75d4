"""A dataset from `tesla data` to a distilled grid: what is reported, what is refused, what a workspace remembers."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from engine.data.registry import find_source
from engine.data.request import DataRequest, Fit
from engine.data.resolve import resolve
from engine.runs.workspace import Workspace
from engine.storage.atomic import read_json
from tesla_tui.render.first_images import print_first_images
from tests.engine.data.test_pictures import deep_png
from tests.processes import sets
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]

COLOURS = {
    "beach": (230, 200, 120), "city": (120, 120, 130), "family": (200, 120, 110),
    "food": (180, 90, 60), "mountains": (80, 110, 160), "sunset": (250, 120, 60),
}  # fmt: skip
SIZES = ((64, 48), (48, 64), (81, 33), (50, 50))
KEYS = {
    "format", "name", "source", "splits", "config", "columns", "class_order", "left_out", "notes", "classes", "modes",
    "sizes", "looked", "total", "channels", "resolution", "value_range", "fit", "next",
}  # fmt: skip


def holiday(root: Path, count: int = 8) -> Path:
    """Six folders of photographs of different sizes, some turned by their EXIF."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            width, height = SIZES[i % len(SIZES)]
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (height, width, 3)), 0, 255).astype(np.uint8)
            exif = Image.Exif()
            exif[0x0112] = 6 if i % 3 == 0 else 1
            Image.fromarray(pixels).save(root / name / f"IMG_{i:04d}.jpg", exif=exif)
    return root


def report_of(tesla: Tesla, *arguments: object) -> dict[str, Any]:
    code, out, err = tesla("data", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert set(found) == KEYS
    return found


def test_the_report_as_json_is_all_there_is_on_stdout(tesla: Tesla, tmp_path: Path) -> None:
    holiday(tmp_path / "holiday")
    found = report_of(tesla, "holiday", "--set", "dataset.resolution=16")
    assert found["format"] == 1
    assert [(c["name"], c["train"], c["test"]) for c in found["classes"]] == [(name, 6, 2) for name in COLOURS]
    assert {s["role"] for s in found["splits"]} == {"train", "test"}
    assert found["sizes"]["64 x 48"] == 12 and found["modes"] == {"RGB": 48}
    assert (found["resolution"]["value"], found["channels"]["value"]) == ("16", "3")
    assert found["next"] == "tesla init my-run --dataset holiday --set dataset.resolution=16"
    assert not list(tmp_path.glob("my-run*"))  # nothing is written


def test_the_report_fits_a_terminal_and_ends_with_the_next_command(
    tesla: Tesla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holiday(tmp_path / "holiday")
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = tesla("data", "holiday", "--pictures")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "6 classes, 36 training images, 12 test images, 32x32 RGB" in out
    assert re.search(r"0 +beach +6 +2\n", out)
    assert re.search(r"beach +city +family +food", out.rpartition("fit")[2])  # the captions of the pictures
    assert out.splitlines()[-1].strip() == "tesla init my-run --dataset holiday"
    # Through a pipe: no pictures.
    _, piped, _ = tesla("data", "holiday")
    assert not re.search(r"beach +city", piped)


def test_a_workspace_reports_its_own_dataset(tesla: Tesla) -> None:
    tesla("init", "ws", "--dataset", "digits")
    found = report_of(tesla, "ws")
    assert (found["name"], len(found["classes"]), found["next"]) == ("digits", 10, "tesla run ws --ipc 1")
    assert found["resolution"] == {"value": "8", "why": "preset digits"}
    other = report_of(tesla, "ws", "--set", "dataset.resolution=16")
    assert other["resolution"] == {"value": "16", "why": "dataset.resolution"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["digitz"], 2, "There is no dataset 'digitz', and no file or folder of that name. Did you mean digits?"),
        (["./absent"], 1, "no such folder or file"),
        (["a/b/c"], 1, "no such folder or file"),
        (["notes.txt"], 1, "notes.txt is not a folder"),
        (["digits", "--set", "dataset.path=."], 2, "dataset.path has no effect on digits"),
        (["digits", "--set", "dataset.image_column=x"], 2, "dataset.image_column = x has no effect on digits"),
        (["digits", "--set", "dataset.classes=none.txt"], 2, "none.txt cannot be read: No such file"),
        (["digits", "--set", "dataset.classes=notes.txt"], 2, "the dataset has no class 'Dear diary'"),
        (["mixed"], 1, "Parquet files (data/train.parquet) and pictures (cat/1.png)"),
    ],
)
def test_what_cannot_be_ends_in_a_sentence(
    tesla: Tesla, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary\n")
    (tmp_path / "mixed" / "cat").mkdir(parents=True)
    (tmp_path / "mixed" / "data").mkdir()
    (tmp_path / "mixed" / "data" / "train.parquet").write_bytes(b"PAR1")
    Image.new("L", (4, 4)).save(tmp_path / "mixed" / "cat" / "1.png")
    found, out, err = tesla("data", *arguments, "--json")
    assert (found, out) == (code, "")
    assert words in one_paragraph(err)
    # And nothing is made of it.
    found, _, err = tesla("init", "ws", "--dataset", *arguments)
    assert found == code and words in one_paragraph(err)
    assert not (tmp_path / "ws").exists()


def test_a_known_name_that_is_also_a_folder_is_pointed_out(tesla: Tesla, tmp_path: Path) -> None:
    holiday(tmp_path / "digits")
    _, out, _ = tesla("data", "digits")
    assert "To use the folder, write ./digits." in out
    assert len(report_of(tesla, "./digits")["classes"]) == 6


def test_classes_are_listed_renamed_and_told(tesla: Tesla, tmp_path: Path) -> None:
    holiday(tmp_path / "holiday")
    (tmp_path / "classes.txt").write_text("sunset\nbeach = sea\ncity = elsewhere\nmountains = elsewhere\n")
    code, out, _ = tesla("init", "ws", "--dataset", "holiday", "--set", "dataset.classes=classes.txt")
    assert code == 0
    words = one_paragraph(out)
    assert "sunset, sea, elsewhere" in words
    assert "images are not square: the longer side is cropped" in words  # the short report has all that changes images
    assert "2 classes with 16 images: not listed in the file of dataset.classes (family, food)" in words
    assert "The class 'elsewhere' is made of 'city', 'mountains'" in words
    # The path was whole when it went into tesla.toml.
    found = report_of(tesla, "ws")
    assert [c["name"] for c in found["classes"]] == ["sunset", "sea", "elsewhere"]
    assert found["classes"][2]["train"] + found["classes"][2]["test"] == 16


def test_a_parquet_file_is_a_dataset(tesla: Tesla, tmp_path: Path) -> None:
    import datasets

    def png(i: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (i, i, i)).save(file, "PNG")
        return file.getvalue()

    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    rows = [{"image": {"bytes": png(i), "path": None}, "label": i % 2} for i in range(20)]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "pets.parquet")
    found = report_of(tesla, "pets.parquet")
    assert [(c["name"], c["train"], c["test"]) for c in found["classes"]] == [("cat", 8, 2), ("dog", 8, 2)]
    assert tesla("init", "ws", "--dataset", "pets.parquet")[0] == 0
    assert Workspace(tmp_path / "ws").settings().settings.dataset.path == str(tmp_path / "pets.parquet")


def run_it(tesla: Tesla, run: str, *changes: str) -> str:
    code, out, err = tesla("run", "ws", "--run", run, "--ipc", 1, *sets(*changes))
    assert code == 0, err
    return out


@pytest.mark.slow
def test_from_holiday_pictures_to_a_distilled_grid(tesla: Tesla, tmp_path: Path) -> None:
    """A newcomer's way, with no file edited: what is wrong is refused, the setting in the message settles it."""
    root = holiday(tmp_path / "holiday")
    (root / "city" / "where.txt").write_text("Lisbon")
    (root / "food" / "IMG_0003.jpg").write_bytes((root / "food" / "IMG_0003.jpg").read_bytes()[:300])
    code, out, err = tesla("init", "ws", "--dataset", "holiday", "--set", "dataset.resolution=8")
    assert code == 1 and "Traceback" not in err
    assert "IMG_0003.jpg" in err and "dataset.on_bad_file = skip" in one_paragraph(err)
    assert not (tmp_path / "ws").exists()
    settings = sets("dataset.resolution=8", "dataset.on_bad_file=skip")
    code, out, err = tesla("init", "ws", "--dataset", "holiday", *settings)
    assert code == 0, err
    assert "beach, city, family, food, mountains, sunset" in out
    words = one_paragraph(out)
    assert "1 bad file: no readable image" in words and "1 .txt file: no picture (city/where.txt)" in words
    code, out, err = tesla("run", "ws", "--ipc", 1)
    assert code == 0, err
    assert "random real images" in out
    code, out, err = tesla("show", "ws")
    assert code == 0, err
    assert "beach" in out and "sunset" in out
    code, out, _ = tesla("export", "ws", "--to", "out")
    assert code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "there is no test split" in card
    for file in ("README.md", "recipe.json"):
        assert str(tmp_path) not in (tmp_path / "out" / file).read_text()
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["dataset"]["report"]["fit"] == "crop"


@pytest.mark.slow
def test_a_run_says_what_changed_in_the_data(tesla: Tesla, tmp_path: Path) -> None:
    root = holiday(tmp_path / "holiday")
    tesla("init", "ws", "--dataset", "holiday", "--set", "dataset.resolution=8")
    record = tmp_path / "ws" / "dataset.json"
    before = record.read_bytes()
    run_it(tesla, "one")
    assert record.read_bytes() == before
    (root / "food").rename(root / "meals")
    (root / "city" / "IMG_0001.jpg").unlink()
    out = one_paragraph(run_it(tesla, "two"))
    assert "test images: was 12, now 11; classes removed: food; classes added: meals" in out
    assert read_json(record)["summary"]["test"] == 11
    # A run with another dataset than the workspace's does not describe the workspace.
    run_it(tesla, "three", "dataset.resolution=4", "network.depth=1")
    assert read_json(record)["summary"]["resolution"] == 8
    _, out, _ = tesla("status", "ws")
    assert "6 classes, 36 training and 11 test images" in one_paragraph(out)
    _, out, _ = tesla("status", "ws", "--json")
    assert json.loads(out)["dataset"]["classes"] == 6


def test_doctor_verifies_the_record_and_sets_a_damaged_one_aside(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    assert "dataset.json: digits" in one_paragraph(tesla("doctor", "ws")[1])
    record = tmp_path / "ws" / "dataset.json"
    record.write_text(record.read_text().replace('"train": 1438', '"train": 1439'))
    code, out, _ = tesla("doctor", "ws")
    assert code == 1 and "dataset.json" in out
    assert tesla("status", "ws")[0] == 0
    tesla("doctor", "ws", "--repair")
    assert not record.exists()
    assert tesla("doctor", "ws")[0] == 0


def test_the_pictures_are_fitted_as_they_will_be_decoded(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("L", (16, 8), 200).save(tmp_path / name / f"{i}.png")
    fits: tuple[Fit, ...] = ("pad", "crop")
    for fit in fits:
        request = DataRequest("folder", tmp_path, resolution=8, fit=fit)
        shown = io.StringIO()
        console = Console(file=shown, width=80, color_system="truecolor", force_terminal=True)
        print_first_images(console, resolve(find_source(request), request))
        assert ";200;200;200m" in shown.getvalue()
        assert (";0;0;0m" in shown.getvalue()) == (fit == "pad")


def test_a_hostile_name_reaches_no_terminal(tesla: Tesla, tmp_path: Path) -> None:
    for name in ("a\x1b[31mred", "[bold]b"):
        (tmp_path / "evil" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), i).save(tmp_path / "evil" / name / f"{i}.png")
    code, out, _ = tesla("data", "evil", "--pictures")
    assert code == 0 and "\x1b" not in out and "[bold]b" in out


@pytest.mark.slow
def test_a_zip_is_a_dataset(tesla: Tesla, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("cat", "dog"):
            for i in range(5):
                file = io.BytesIO()
                Image.new("L", (8, 8), 10 * i).save(file, "PNG")
                archive.writestr(f"{name}/{i}.png", file.getvalue())
    found = report_of(tesla, "photos.zip")
    assert [(c["name"], c["train"], c["test"]) for c in found["classes"]] == [("cat", 4, 1), ("dog", 4, 1)]
    assert found["source"] == f"zip archive {tmp_path / 'photos.zip'}"
    assert tesla("init", "ws", "--dataset", "photos.zip")[0] == 0
    assert "2 classes, 8x8 grey; 6 training, 2 held-out and 2 test images" in run_it(tesla, "one")


@pytest.mark.slow
def test_deep_colour_goes_from_a_refusal_to_a_run(tesla: Tesla, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for i in range(5):
            values = rng.integers(0, 4096, (8, 8, 3)).astype(np.uint16)
            (tmp_path / "deep" / name / f"{i}.png").write_bytes(deep_png(values))
    code, _, err = tesla("init", "ws", "--dataset", "deep")
    assert code == 2 and "Set dataset.value_range" in one_paragraph(err)
    assert not (tmp_path / "ws").exists()
    code, _, err = tesla("init", "ws", "--dataset", "deep", "--set", "dataset.value_range=[0, 4095]")
    assert code == 0, err
    assert re.search(r"dataset\.value_range +0\.0, 4095\.0", tesla("config", "ws", "--ipc", 1)[1])
    run_it(tesla, "1")

"""A command checks what it needs and nothing else, on small folders of pictures."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import DiskError, system_reason
from engine.storage.atomic import disk
from engine.storage.filesystem import System, disk_error
from tests.conftest import TINY
from tests.processes import tesla_here

Tesla = Callable[..., tuple[int, str]]
SETS = [word for text in TINY for word in ("--set", text)]


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tesla:
    """`tesla("run", "ws")` -> exit code, all output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    return tesla_here(capsys, monkeypatch)


def pictures(root: Path, sizes: Mapping[str, int]) -> Path:
    """A class-per-folder tree of 8x8 noise, each class of its own brightness."""
    noise = np.random.default_rng(0)
    for number, (name, count) in enumerate(sizes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = noise.integers(number * 60, number * 60 + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def distilled_set(path: Path, classes: int, ipc: int) -> Path:
    """A published set for 8x8 grey images."""
    images = np.random.default_rng(1).random((classes * ipc, 1, 8, 8), dtype=np.float32)
    np.savez(path, images=images, labels=np.repeat(np.arange(classes), ipc))
    return path


def test_a_batch_of_teachers_is_at_most_all_images(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    assert tesla("init", "ws", "--dataset", "./data")[0] == 0
    large = [*SETS, "--set", "teachers.batch=256"]
    code, out = tesla("run", "ws", "--ipc", 1, *large)
    assert code == 0, out
    assert "teachers.batch = 256 is more than the 28 training images" in out
    assert "with batches of 28, one step an epoch" in out
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "ws" / "buffers").glob("*/manifest.json")]
    assert [manifest["identity"]["batch"] for manifest in manifests] == [256]  # with the dataset it says the same
    code, out = tesla("run", "ws", "--run", "ipc-1", "--set", "distill.iterations=7")
    assert code == 0, out
    assert "is more than the 28 training images" not in out  # nothing is trained
    # The same teachers as with a batch of all images, to the bit.
    assert tesla("run", "ws", "--run", "all", *SETS, "--set", "teachers.batch=28")[0] == 0
    files = sorted((tmp_path / "ws" / "buffers").glob("*/trajectory-0000.safetensors"))
    assert len(files) == 2 and files[0].read_bytes() == files[1].read_bytes()


def test_a_plan_and_a_config_take_a_batch_beyond_the_data(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    for command in (["plan", "ws", "--ipc", 1], ["config", "ws", "--ipc", 1]):
        code, out = tesla(*command, *SETS, "--set", "teachers.batch=256")
        assert code == 0, out


def test_teachers_alone_need_nothing_of_later_stages(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 6})
    tesla("init", "ws", "--dataset", "./data")
    later = ("distill.batch=100", "evaluate.networks=vit,nonsense")
    changed = [word for text in later for word in ("--set", text)]
    code, out = tesla("teach", "ws", "--ipc", 9, *SETS, *changed)
    assert code == 0, out
    code, out = tesla("run", "ws", "--ipc", 9, *SETS, *changed)
    assert code == 2, out


def test_a_cache_that_cannot_be_written_says_why(tesla: Tesla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly(System):
        def make_folder(self, path: Path) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    monkeypatch.setenv("TESLA_CACHE", str(tmp_path / "none" / "cache"))
    monkeypatch.setattr(disk, "system", ReadOnly())
    code, out = tesla("run", "ws", "--ipc", 1, *SETS)
    assert code == 1 and "cannot be written (Read-only file system)" in out
    assert "None" not in out


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("no descriptor left"), "no descriptor left"),
        (OSError(), "OSError"),
        (DiskError("It is full.", "", errno.ENOSPC), "No space left on device"),
        (DiskError("It failed.", "", None), "It failed."),
    ],
)
def test_a_system_error_always_has_words(error: OSError, words: str) -> None:
    assert system_reason(error) == words
    assert f"({words})" in disk_error(error, Path("x")).message


def test_an_imported_set_is_measured_and_exported_whatever_teachers_would_need(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    distilled_set(tmp_path / "set.npz", 2, 30)  # more than there are real images of a class
    tesla("init", "ws", "--dataset", "./data", "--set", "teachers.batch=256", "--set", "distill.batch=100")
    code, out = tesla("import-images", "ws", "set.npz", "--lr", 0.01, "--space", "pixels", "--run", "theirs", *SETS)
    assert code == 0, out
    code, out = tesla("evaluate", "ws", "--run", "theirs")
    assert code == 2 and "'cat' has 14 training images" in out and "--set evaluate.baseline=false" in out
    code, out = tesla("evaluate", "ws", "--run", "theirs", "--set", "evaluate.baseline=false")
    assert code == 0, out
    code, out = tesla("export", "ws", "--run", "theirs", "--to", "out")
    assert code == 0, out


def test_a_run_is_read_whatever_became_of_tesla_toml(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    toml = tmp_path / "ws" / "tesla.toml"
    good = toml.read_text()
    toml.write_text(good.replace("[network]", "[network]\nwidth = 9"))  # for the next run
    code, out = tesla("evaluate", "ws", "--set", "evaluate.repeats=1")
    assert code == 0 and "Warning" not in out, out
    toml.write_text(good.replace("[evaluate]", '[evaluate]\naugment = "none"'))
    code, out = tesla("evaluate", "ws")
    assert code == 0 and "Measured with evaluate.augment = none" in out, out
    toml.write_text(good.replace("[network]", "[network]\nname = convnet"))
    code, out = tesla("evaluate", "ws", "--network", "vit")
    assert code == 0, out
    assert "is not valid TOML" in out and "settings that the run ipc-1 was started with are used" in out
    for command in (["export", "ws", "--to", "out"], ["show", "ws"], ["report", "ws"], ["status", "ws"]):
        code, out = tesla(*command)
        assert code == 0, (command, out)
    code, out = tesla("status", "ws")
    assert "Settings: " in out and "is not valid TOML" in out
    assert "is not valid TOML" in json.loads(tesla("status", "ws", "--json")[1])["settings_error"]
    code, out = tesla("run", "ws", "--run", "ipc-1")
    assert code == 2 and 'Text needs quotes: name = "convnet"' in out


def test_an_evaluation_changes_only_how_it_measures(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    for text, words in (
        ("network.width=9", "network.width is fixed for this run"), ("evaluate.repeat=3", "There is no setting"),
        ("evaluate.repeats=0", "`evaluate.repeats` must be greater than or equal to 1"),
    ):  # fmt: skip
        code, out = tesla("evaluate", "ws", "--set", text)
        assert code == 2 and words in out
    code, out = tesla("evaluate", "ws", "--network", "convnet", "--network", "nonsense")
    assert code == 2 and "nonsense" in out


def test_noise_without_a_baseline_needs_no_real_images(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 6})
    tesla("init", "ws", "--dataset", "./data")
    code, out = tesla("run", "ws", "--ipc", 5, *SETS)
    assert code == 2 and "'dog' has 4 training images" in out
    assert "distill.init = noise, evaluate.baseline = false" in out
    noise = [*SETS, "--set", "distill.init=noise", "--set", "evaluate.baseline=false"]
    code, out = tesla("run", "ws", "--ipc", 5, *noise)
    assert code == 0, out


def test_an_imported_buffer_is_asked_for_only_by_methods_with_teachers(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    assert tesla("export-buffers", "ws", "--to", "buffers")[0] == 0
    code, out = tesla("import-buffers", "ws", *(tmp_path / "buffers").glob("*.pt"), "--name", "mtt", *SETS)
    assert code == 0, out
    mine = [*SETS, "--set", "teachers.buffer=mtt"]
    assert tesla("run", "ws", "--run", "theirs", *mine)[0] == 0
    # Of another size: it cannot serve a run, and a method without teachers does not ask it to.
    code, out = tesla("run", "ws", "--run", "dm", *mine, "--set", "distill.method=dm", "--set", "teachers.count=9")
    assert code == 0, out
    for path in sorted((tmp_path / "ws" / "buffers" / "mtt").iterdir()):
        path.unlink()
    code, out = tesla("run", "ws", "--run", "dm-2", *mine, "--set", "distill.method=dm")
    assert code == 0, out
    code, out = tesla("evaluate", "ws", "--run", "theirs", "--network", "vit")
    assert code == 0, out
    code, out = tesla("export", "ws", "--run", "theirs", "--to", "out")
    assert code == 0, out


@pytest.mark.parametrize(
    ("sizes", "tested", "sets", "words", "advice"),
    [
        ({"cat": 8, "lone dog": 1}, False, (), "'lone dog' has only 1 image and no test set", "Add a second image"),
        ({"cat": 8, "lone dog": 1}, False, ("dataset.holdout=0",), "'lone dog' has only 1 image and", "Add a second"),
        ({"cat": 8, "lone dog": 2}, False, (), "'lone dog' has only 1 image left to train on", "dataset.holdout = 0"),
        ({"cat": 8, "lone dog": 1}, True, (), "'lone dog' has only 1 image left to train on", "dataset.holdout = 0"),
    ],
)
def test_a_class_of_one_image(
    tesla: Tesla, tmp_path: Path, sizes: Mapping[str, int], tested: bool, sets: tuple[str, ...], words: str, advice: str
) -> None:
    pictures(tmp_path / "data" / "train" if tested else tmp_path / "data", sizes)
    if tested:
        pictures(tmp_path / "data" / "test", {"cat": 2, "lone dog": 2})
    given = [word for text in sets for word in ("--set", text)]
    code, out = tesla("init", "ws", "--dataset", "./data")  # knows already where no test set can be made
    if code == 0:
        code, out = tesla("run", "ws", "--ipc", 1, *SETS, *given)
    assert code == 2 and words in out and advice in out, out
    if "dataset.holdout" in advice:
        done = [*SETS, *given, "--set", "dataset.holdout=0"]
    else:
        pictures(tmp_path / "more", {"lone dog": 3})
        for path in (tmp_path / "more" / "lone dog").iterdir():
            path.rename(tmp_path / "data" / "lone dog" / f"more-{path.name}")
        done = [*SETS, *given]
        if not (tmp_path / "ws").exists():
            tesla("init", "ws", "--dataset", "./data")
    code, out = tesla("run", "ws", "--ipc", 1, *done)
    assert code == 0, out


def test_a_preset_follows_the_size_of_a_folder(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 150, "dog": 150})
    assert tesla("init", "ws", "--dataset", "./data")[0] == 0
    assert (
        "[counted]\nimages = 240\nclasses = 2\nsmallest = 120\nside = 8\n"
        in (tmp_path / "ws" / "tesla.toml").read_text()
    )
    origin = "preset for 240 images of 2 classes, 120 or more each, 8x8"
    rows = json.loads(tesla("config", "ws", "--ipc", 1, "--json")[1])
    assert rows["teachers.batch"] == {"value": 8, "origin": origin}
    assert rows["distill.lr_images"]["origin"] == "preset folder, IPC 1"
    # Below the method's own rates, tesla.toml and the command line, as every preset.
    rows = json.loads(tesla("config", "ws", "--ipc", 1, "--set", "teachers.batch=16", "--json")[1])
    assert rows["teachers.batch"] == {"value": 16, "origin": "command line"}
    rows = json.loads(tesla("config", "ws", "--ipc", 1, "--set", "distill.method=dm", "--json")[1])
    assert rows["distill.lr_images"]["origin"] == "method dm"
    code, out = tesla("run", "ws", "--ipc", 1, *SETS)
    assert code == 0, out
    rows = json.loads(tesla("config", "ws", "--run", "ipc-1", "--json")[1])
    assert rows["teachers.batch"] == {"value": 8, "origin": origin}
    # A lost tesla.toml comes back with its counts, so that the run still resumes.
    (tmp_path / "ws" / "tesla.toml").unlink()
    tesla("doctor", "ws", "--repair")
    code, out = tesla("run", "ws", "--run", "ipc-1", "--set", "distill.iterations=7")
    assert code == 0, out


def test_a_folder_without_counts_has_the_preset_it_had(tesla: Tesla, tmp_path: Path) -> None:
    pictures(tmp_path / "data", {"cat": 20, "dog": 20})
    tesla("init", "ws", "--dataset", "./data")
    toml = tmp_path / "ws" / "tesla.toml"
    toml.write_text(toml.read_text().replace("[counted]\nimages = 32\nclasses = 2\nsmallest = 16\nside = 8\n", ""))
    rows = json.loads(tesla("config", "ws", "--ipc", 1, "--json")[1])
    assert (rows["network.width"]["value"], rows["teachers.batch"]["origin"]) == (64, "default")
    toml.write_text(toml.read_text() + "\n[counted]\nimages = 0\nclasses = 2\n")
    code, out = tesla("config", "ws")
    assert code == 2 and "must have the keys images and classes" in out

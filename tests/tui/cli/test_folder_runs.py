"""Folders and zips through the commands, and runs whose classes were numbered otherwise."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.folders import source as folder
from engine.data.sources import natural_key
from engine.runs.run import Run
from engine.runs.same_data import check_classes
from tesla_tui.main import main
from tests.conftest import TINY
from tests.engine.data.trees import make

pytestmark = pytest.mark.slow

Tesla = Callable[..., tuple[int, str]]


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tesla:
    """`tesla("run", "ws")` -> exit code and all that it printed, as one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESLA_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["tesla", *map(str, words)])
        try:
            code = int(main())
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    return call


def sets() -> list[str]:
    return [word for text in (*TINY, "teachers.batch=8", "dataset.resolution=8") for word in ("--set", text)]


def numbered(root: Path) -> Path:
    return make(root, *(f"{split}/{name}" for split in ("train", "test") for name in (1, 2, 10)), count=12)


def test_a_zip_is_a_dataset_of_a_workspace(tesla: Tesla, tmp_path: Path) -> None:
    root = make(tmp_path / "in", *(f"train/{name}" for name in ("cat", "dog")), "val/cat", "val/dog", count=12)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(root))
    code, text = tesla("init", "ws", "--dataset", "folder", "--set", f"dataset.path={tmp_path / 'pets.zip'}")
    assert code == 0, text
    code, text = tesla("run", "ws", "--ipc", 1, *sets())
    assert code == 0, text


def test_a_run_of_the_old_class_order_is_refused_with_the_reason(
    tesla: Tesla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = numbered(tmp_path / "digits-as-folders")
    assert tesla("init", "ws", "--dataset", root)[0] == 0
    with monkeypatch.context() as old:  # 0.1.0 numbered classes in natural order, and had another key
        new = folder._classes
        old.setattr(folder, "_classes", lambda *given: tuple(sorted(new(*given), key=natural_key)))
        old.setattr(folder, "ORDER", 1)
        code, text = tesla("run", "ws", "--run", "old", *sets())
        assert code == 0, text
    code, text = tesla("run", "ws", "--run", "old", *sets(), "--set", "distill.iterations=8")
    assert code == 2, text
    assert "made with its classes in the order 1, 2, 10; now it is 1, 10, 2" in text
    assert "tesla 0.1.0 sorted the folders of classes by number" in text
    assert "printf '%s\\n' 1 2 10 > classes.txt" in text
    assert "dataset.classes" in text
    assert tesla("evaluate", "ws", "--run", "old")[0] == 2
    for command in ("run", "show"):  # a finished run only shows its images, with the names it was made with
        code, text = tesla(command, "ws", "--run", "old", *(sets() if command == "run" else ()))
        assert code == 0, text
        assert " 1 2 10" in text and "1 10 2" not in text, text
    run = Run(tmp_path / "ws" / "runs" / "old")
    check_classes(run, ["1", "2", "10"])
    listed = (*sets(), "--set", "dataset.classes=classes.txt")
    run.check(_effective(tmp_path, listed))  # it may be set on a run that had none
    code, text = tesla("run", "ws", "--run", "new", *sets())
    assert code == 0, text


def test_a_finished_run_survives_a_renamed_class_and_a_moved_folder(tesla: Tesla, tmp_path: Path) -> None:
    root = make(tmp_path / "pets", "cat", "dog", "fox", count=12)
    assert tesla("init", "ws", "--dataset", root)[0] == 0
    assert tesla("run", "ws", "--ipc", 1, *sets())[0] == 0
    (root / "cat").rename(root / "yak")  # now the last class: the first image is still a cat
    code, text = tesla("show", "ws", "--run", "ipc-1")
    assert code == 2 and "made with other classes: cat, yak" in text
    code, text = tesla("run", "ws", "--ipc", 1, *sets())
    assert code == 0 and "images cannot be shown" in text and "Test accuracy" in text
    (root / "yak").rename(root / "cat")
    root.rename(tmp_path / "moved")
    code, text = tesla("run", "ws", "--ipc", 1, *sets())
    assert code == 0 and "does not exist" in text and "ln -s NEW OLD" in text and "Test accuracy" in text
    assert tesla("evaluate", "ws", "--run", "ipc-1")[0] == 1
    root.symlink_to(tmp_path / "moved")
    assert tesla("show", "ws", "--run", "ipc-1")[0] == 0


def test_a_refused_file_names_the_words_to_type(tesla: Tesla, tmp_path: Path) -> None:
    root = make(tmp_path / "pets", "cat", "dog", count=6)
    for name in "ab":
        (root / "cat" / f"{name}.heic").write_bytes(b"no picture")
    code, text = tesla("data", root)
    assert code == 1 and "not read here (.heic); so is 1 more" in text
    assert "--set dataset.on_bad_file=skip, or in tesla.toml for every run" in text
    code, text = tesla("data", root, "--set", "dataset.on_bad_file=skip")
    assert code == 0 and "the only split" in text and "2 bad files" in text


def _effective(tmp_path: Path, words: tuple[str, ...]) -> object:
    from engine.runs.workspace import Workspace

    return Workspace(tmp_path / "ws").settings(overrides=tuple(word for word in words if word != "--set"))


def test_a_run_does_not_mix_two_versions_of_its_data(tesla: Tesla, tmp_path: Path) -> None:
    root = make(tmp_path / "pets", "cat", "dog", count=12)
    assert tesla("init", "ws", "--dataset", root)[0] == 0
    assert tesla("run", "ws", "--ipc", 1, *sets())[0] == 0
    more = ("--ipc", 1, *sets(), "--set", "distill.iterations=9")
    new = root / "cat" / "new.png"
    new.write_bytes((root / "dog" / "1.png").read_bytes())
    code, text = tesla("run", "ws", *more)
    assert code == 2 and "have changed since the run ipc-1 was started" in text
    assert "of the 20 training and 4 test images that it had then" in text and "--run NAME" in text
    for command in (("evaluate", "ws", "--run", "ipc-1"), ("export", "ws", "--run", "ipc-1", "--to", "out")):
        assert tesla(*command)[0] == 2
    assert tesla("run", "ws", "--run", "other", *more)[0] == 0
    new.unlink()
    code, text = tesla("run", "ws", *more)
    assert code == 0, text

"""What strangers named reaches neither the terminal nor a dataset card as anything but text."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.tools.exchange.card import dataset_card
from tesla_tui.render.words import clean, duration, literal
from tests.conftest import TINY
from tests.processes import tesla_here

Tesla = Callable[..., tuple[int, str]]
SETS = [word for text in TINY for word in ("--set", text)]
NAMES = (
    "a\x1b]52;c;ZXZpbA==\x07",  # writes the clipboard
    "b\x1b[2J\x1b]0;owned\x07",  # clears the screen, renames the window
    "c\u202egnp.exe",  # shows backwards
    "d[red]markup [link=file:~]e",
    "e\nEverything is in order.",
    "f\x9b31m<b>`x`",  # the one-byte control sequence
)


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tesla:
    """`tesla("run", "ws")` -> exit code, all output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tesla_here(capsys, monkeypatch)


def harmless(text: str) -> str:
    found = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert not found, f"{found} in {text!r}"
    return text


@pytest.mark.slow
def test_names_of_classes_are_only_text(tesla: Tesla, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            pixels = noise.integers(number * 30, number * 30 + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    assert tesla("init", "ws", "--dataset", "./data")[0] == 0
    sets = [*SETS, "--set", "teachers.batch=8"]
    for words in (
        ["run", "ws", "--ipc", 1, *sets], ["show", "ws"], ["show", "ws", "--class", "nobody"], ["status", "ws"],
        ["config", "ws"], ["export", "ws", "--to", "out"], ["doctor", "ws"],
    ):  # fmt: skip
        code, out = tesla(*words)
        assert code == (2 if "nobody" in words else 0), out
        harmless(out)
        assert not any(line.strip() == "No problems found." for line in out.splitlines()) or words[0] == "doctor"
    card = harmless((tmp_path / "out" / "README.md").read_text())
    assert "\\[link=file:\\~\\]" in card
    assert "&lt;b>" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "ws"]
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*"))


def test_what_a_workspace_says_of_itself_is_only_text(tesla: Tesla, tmp_path: Path) -> None:
    """A run that was recorded, with a failure, an origin and a dataset that would steer a terminal."""
    recorded = Path(__file__).parents[2] / "data" / "recorded"
    folder = Path(shutil.copytree(recorded, tmp_path / "ws[red]\x1b[2J"))
    run = folder / "runs" / "learned"
    text = run.joinpath("settings.toml").read_text()
    run.joinpath("settings.toml").write_text(text.replace('"default"', '"\\u001b]0;x\\u0007[bold]"'))
    failed = {"schema": 1, "seq": 9999, "time": 1.0, "kind": "RunFailed", "message": "\x1b[31m[link=x]no\nyes"}
    with open(run / "journal.jsonl", "a") as journal:
        journal.write(json.dumps(failed) + "\n")
    for words in (["status", folder], ["config", folder, "--run", "learned"], ["doctor", folder], ["show", folder]):
        code, out = tesla(*words)
        assert code in (0, 1, 2)
        harmless(out)
    assert "[link=x]no" in tesla("status", folder)[1]


@pytest.mark.parametrize(
    "words",
    [("show", "ws", "--png"), ("show", "ws", "--film"), ("log", "ws", "--csv"), ("bench", "data", "--json"),
     ("bench", "gradient", "--json"), ("bench", "gradient", "--png"), ("bench", "gradient", "--markdown")],
)  # fmt: skip
def test_a_folder_is_not_replaced_by_a_file(tesla: Tesla, tmp_path: Path, words: tuple[str, ...]) -> None:
    shutil.copytree(Path(__file__).parents[2] / "data" / "recorded", tmp_path / "ws")
    folder = tmp_path / "mine.gif"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    code, out = tesla(*words, folder.name)
    assert code == 2 and "is a directory" in out
    assert (folder / "precious").read_text() == "mine"


@pytest.mark.slow
def test_names_of_folders_and_files_are_said_as_they_are(tesla: Tesla, tmp_path: Path) -> None:
    folder = tmp_path / "a[/b] [red]c"
    folder.mkdir(parents=True)
    ws = folder / "ws"
    tesla("init", ws, "--dataset", "digits")
    assert tesla("run", ws, "--ipc", 1, *SETS)[0] == 0
    assert tesla("export", ws, "--to", folder / "set", "--format", "pt")[0] == 0
    for words, named in (
        (["export-buffers", ws, "--to", folder / "teachers"], "teachers"),
        (["report", ws, "--to", folder / "r.html"], "r.html"),
        (["log", ws, "--csv", folder / "n.csv"], "n.csv"),
        (["log", ws, "--tensorboard", folder / "curves", "--once"], "curves"),
        (["study", "gallery", ws, "--run", "ipc-1"], "ws/studies/gallery/ipc-1/page-001.png"),
        (["study", "sla-only", ws, "--ipc", 1, *SETS], "ws/studies/sla-only"),
    ):
        code, out = tesla(*words)
        assert code == 0, out
        assert f"{folder}/{named}" in out.replace("\n", "")
    images, teachers = folder / "i[/x].pt", folder / "t[/x].pt"
    (folder / "i[").mkdir()
    (folder / "t[").mkdir()
    shutil.copy(folder / "set" / "images_best.pt", images)
    shutil.copy(folder / "teachers" / "replay_buffer_0.pt", teachers)
    code, out = tesla("import-images", ws, images, folder / "set" / "labels_best.pt", "--lr", "0.02", *SETS)
    assert code == 0 and "imported from x].pt" in out
    assert tesla("import-buffers", ws, teachers, "--name", "mtt", *SETS)[0] == 0
    assert "imported from x].pt" in tesla("status", ws)[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_name_that_is_not_unicode_is_refused_where_a_library_cannot_open_it(tesla: Tesla, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"\xff"))
    folder.mkdir()
    ws = folder / "ws"
    tesla("init", ws, "--dataset", "digits")
    code, out = tesla("run", ws, "--ipc", 1, *SETS)
    assert code == 0, out
    assert tesla("export", ws, "--to", folder / "set", "--format", "pt")[0] == 0
    assert tesla("export-buffers", ws, "--to", folder / "teachers")[0] == 0
    images, labels = folder / "set" / "images_best.pt", folder / "set" / "labels_best.pt"
    for words in (
        ["import-images", ws, images, labels, "--lr", "0.02", *SETS],
        ["import-buffers", ws, folder / "teachers" / "replay_buffer_0.pt", "--name", "mtt", *SETS],
        ["log", ws, "--tensorboard", folder / "curves", "--once"],
    ):
        code, out = tesla(*words)
        assert code == 2, out
        assert "its name has bytes that are not UTF-8" in out.replace("\n", " ")
    assert sorted(path.name for path in folder.iterdir()) == ["set", "teachers", "ws"]
    assert not list(ws.rglob("*mtt*"))


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_data_whose_path_tesla_toml_cannot_hold_is_refused_in_these_words(tesla: Tesla, tmp_path: Path) -> None:
    pictures = Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"\xe9"))
    for name in ("a", "b"):
        (pictures / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), 20 * number).save(pictures / name / f"{number}.png")
    setting = f"dataset.path={pictures}"
    for words in (
        ["data", pictures],
        ["init", "ws", "--dataset", pictures],
        ["init", "ws", "--dataset", os.fsdecode(b"none\xe9")],
        ["init", "ws", "--dataset", "folder", "--set", setting],
    ):  # fmt: skip
        code, out = tesla(*words)
        assert code == 2, out
        assert "tesla.toml cannot hold" in out and "bytes that are not UTF-8" in out.replace("\n", " ")
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/passwd", "a/b", "..", ".", "", "a\x00b", "a\nb", "-rf", "x" * 65, "x" * 10_000, "caf\u00e9",
     "\u202ex", "a b", ".hidden", "\uff0e\uff0e\uff0fx", "~", "$HOME", "\x1b[2J"],
)  # fmt: skip
def test_names_of_runs_are_names(tesla: Tesla, tmp_path: Path, name: str) -> None:
    tesla("init", "ws")
    before = sorted(tmp_path.rglob("*"))
    for command in ("run", "show", "export"):
        code, out = tesla(command, "ws", f"--run={name}", *(["--to", "out"] if command == "export" else []))
        assert code == 2
        harmless(out)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_card_is_valid_whatever_the_names() -> None:
    import yaml

    facts = {
        "dataset": {
            "title": 'x"\n---\nlicense: evil\\', "license": "unknown",
            "classes": ["a|b", "`c`", "[d](http://e)"], "source": "<script>![](http://tracker)",
            "test_images": 1, "train_images": 1, "fingerprint": "0",
        },
        "image": {"channels": 1, "resolution": 8, "space": "normalise"}, "ipc": 1, "formation": 1, "iteration": 1,
        "made_by": "t",
        "run": "r", "origin": None, "method": "<b>m</b>",
        "settings": {
            "distill.gradient": "exact", "labels.kind": "hard", "distill.iterations": 5, "distill.method": "tesla",
        },
        "training": {"epochs": 1, "student_lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch": 1, "lr_decay": "-",
            "measured_with": "dsa",
        },
    }  # fmt: skip
    card = dataset_card(facts, [], ("a|b", "`c`", "[d](http://e)"), {"train": "data/train.parquet"}, False)
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["pretty_name"] == 'x"---license: evil\\, distilled to 1 image per class'
    assert head["license"] == "unknown"
    body = card.split("---\n", 2)[2]
    assert "<script" not in body
    assert "![](http" not in body
    assert "\\[d\\](http://e)" in body


def test_words_for_text_and_numbers_of_strangers() -> None:
    assert clean("a\x1b[2Jb\u202ec\ud800") == "a\ufffd[2Jb\ufffdc\ufffd"
    assert literal("[red]x\n\x07") == "\\[red]x\ufffd\ufffd"
    assert [duration(value) for value in (float("nan"), float("inf"), 5.0)] == ["? s", "? s", "5.0 s"]

"""Multi-formation through the front door: run, look, plan, export, train elsewhere, import again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import engine.settings.decoders
from engine.data.decoder import decode_all, decoder_of
from engine.runs.workspace import Workspace
from tests.conftest import TINY
from tests.engine.methods.test_formation_runs import documented_decoder
from tests.runs import newest
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]

BETTER = (
    "network.width=8", "dataset.holdout=0", "evaluate.epochs=100", "evaluate.repeats=3", "distill.student_lr=0.02",
    "distill.formation=2",
)  # fmt: skip


def sets(*more: str) -> list[str]:
    settings = {text.partition("=")[0]: text for text in (*TINY, *more)}
    return [word for text in settings.values() for word in ("--set", text)]


def before_network(script: Path) -> dict[str, Any]:
    """The names in train.py once it has read and decoded the images."""
    text = script.read_text().partition("def convnet")[0]
    names: dict[str, Any] = {"__file__": str(script)}
    exec(compile(text, str(script), "exec"), names)
    return names


@pytest.mark.slow
def test_an_export_is_decoded_by_plain_pytorch_as_by_the_run(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    code, printed, _ = tesla("run", "ws", "--ipc", 2, "--run", "r", *sets(*BETTER))
    assert code == 0
    assert "random real images, packed 2 x 2" in one_paragraph(printed)
    run = Workspace(Path("ws")).run("r")
    settings = run.frozen().settings
    result = next(r for r in run.evaluations() if r.subject == "distilled")
    code, printed, _ = tesla("export", "ws", "--to", "out", "--with-test")
    assert code == 0
    assert "each picture holds 2 x 2 smaller ones, decoded in decoded/ and data/" in one_paragraph(printed)
    out = tmp_path / "out"

    theirs = before_network(out / "train.py")
    ours = decode_all(decoder_of(settings.distill, (1, 8, 8)), newest(run)["images"])
    assert theirs["images"].shape == (80, 1, 8, 8)
    assert torch.allclose(theirs["images"], ours, atol=1e-5)
    assert torch.equal(theirs["labels"].argmax(dim=1), torch.arange(10).repeat_interleave(8))
    script = subprocess.run(
        [sys.executable, "-I", str(out / "train.py")], capture_output=True, text=True, cwd="/", check=True
    )
    assert "trained on 80 images" in script.stdout
    accuracy = float(script.stdout.split("images:")[1].split("%")[0])
    assert accuracy == pytest.approx(100 * result.mean, abs=12)  # one network against the mean of three
    assert accuracy > 30

    card = (out / "README.md").read_text()
    assert "Each image holds 2 x 2 smaller ones" in card
    names: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    made = names["Distilled"](out / "distilled.safetensors")
    assert len(made) == 80
    assert torch.equal(made.images, theirs["images"])
    assert torch.equal(made.labels, theirs["labels"])
    assert json.loads((out / "recipe.json").read_text())["formation"] == 2

    import datasets
    from safetensors.torch import load_file

    seen = datasets.load_dataset(str(out), split="train")
    stored = datasets.load_dataset(str(out), "stored", split="train")
    assert (len(seen), len(stored)) == (80, 20)
    assert seen.features == stored.features
    assert seen["label"] == [k for k in range(10) for _ in range(8)]
    assert np.array_equal(np.asarray(stored[3]["image"]), read(out / "images" / "1-1" / "0001.png"))
    assert np.array_equal(np.asarray(seen[9]["image"]), read(out / "decoded" / "1-1" / "0001.png"))
    tensors = load_file(out / "distilled.safetensors")
    pixels = tensors["space.mean"], tensors["space.std"]
    shown = (theirs["images"][9, 0] * pixels[1] + pixels[0]).clamp(0, 1)
    assert np.abs(np.asarray(seen[9]["image"]) / 255 - shown.numpy()).max() <= 0.5 / 255 + 1e-5


def read(path: Path) -> "np.ndarray[Any, Any]":
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.slow
def test_files_of_published_code_hold_what_is_seen_and_come_back_to_the_same_accuracy(
    tesla: Tesla, tmp_path: Path
) -> None:  # fmt: skip
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, "--run", "r", *sets("distill.formation=2"))[0] == 0
    code, printed, _ = tesla("export", "ws", "--to", "pt", "--format", "pt")
    assert code == 0
    assert "Wrote 40 images" in printed and "decoded from 10 stored ones" in one_paragraph(printed)
    images: Tensor = torch.load(tmp_path / "pt" / "images_best.pt")
    assert images.shape == (40, 1, 8, 8)
    assert torch.load(tmp_path / "pt" / "labels_best.pt").tolist() == [k for k in range(10) for _ in range(4)]
    assert "stores 1 image per class, each of which holds 4 smaller ones" in (tmp_path / "pt" / "README.md").read_text()
    files = [tmp_path / "pt" / f"{name}_best.pt" for name in ("images", "labels", "lr")]
    # A workspace that itself distils with formation: what is imported is whole all the same.
    command = ("import-images", "ws", *files[:2], "--lr", files[2], "--run", "again")
    code, _, err = tesla(*command, *sets("distill.formation=2"))
    assert code == 2
    assert "--formation F splits" in one_paragraph(err)
    toml = tmp_path / "ws" / "tesla.toml"
    toml.write_text(toml.read_text() + "\n[ipc.4.distill]\nformation = 2\n")
    assert tesla(*command, *sets())[0] == 0
    assert tesla("evaluate", "ws", "--run", "again")[0] == 0
    # Our own export keeps the stored images, and says what they hold.
    assert tesla("export", "ws", "--run", "r", "--to", "out")[0] == 0
    code, printed, _ = tesla("import-images", "ws", tmp_path / "out", "--run", "stored", *sets())
    assert code == 0
    assert "each picture holds 2 x 2 smaller ones" in one_paragraph(printed)
    assert tesla("evaluate", "ws", "--run", "stored")[0] == 0
    names = ("r", "again", "stored")
    distilled, random = (
        [
            next(r for r in Workspace(Path("ws")).run(name).evaluations() if (r.subject, r.split) == (subject, "test"))
            for name in names
        ]
        for subject in ("distilled", "random")
    )
    assert distilled[0].accuracies == distilled[1].accuracies == distilled[2].accuracies
    assert [r.formation for r in distilled] == [2, 1, 2]
    assert random[0].accuracies == random[2].accuracies  # packed the same way
    assert random[0].accuracies != random[1].accuracies  # as many whole ones as are decoded


@pytest.mark.slow
def test_pictures_plans_studies_and_reports_say_what_a_picture_holds(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, "--run", "r", *sets("distill.formation=4", "labels.kind=learned"))[0] == 0
    _, printed, _ = tesla("show", "ws")
    assert ": each picture holds 4 x 4 smaller ones (--decoded shows them)" in one_paragraph(printed)
    _, printed, _ = tesla("show", "ws", "--decoded", "--class", 3)
    assert "what networks see, 16 in a row of each stored picture" in one_paragraph(printed)
    assert one_paragraph(printed).count(" 3") >= 16
    assert (
        tesla("show", "ws", "--png", "stored.png")[0] == tesla("show", "ws", "--decoded", "--png", "seen.png")[0] == 0
    )
    assert read(tmp_path / "seen.png").shape[1] > read(tmp_path / "stored.png").shape[1]

    code, printed, _ = tesla("plan", "ws", "--run", "p", "--json", "--seconds", 0.2, *sets("distill.formation=4"))
    assert code == 0
    plan = json.loads(printed)
    assert (plan["images"], plan["views"]) == (10, 16)
    _, printed, _ = tesla("plan", "ws", "--run", "p", "--seconds", 0.2, *sets("distill.formation=4"))
    assert "10 images (IPC 1, 16 smaller ones in each)" in one_paragraph(printed)

    code, printed, _ = tesla("evaluate", "ws", "--run", "r", "--network", "mlp")
    assert code == 0
    assert "random real images, packed 4 x 4" in one_paragraph(printed)
    assert tesla("study", "gallery", "ws", "--run", "r")[0] == 0
    code, _, err = tesla("study", "cross", "ws", "--run", "r", "--network", "mlp")
    assert code == 0, err
    assert tesla("report", "ws", "--run", "r", "--to", "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "Each picture holds 4 x 4 smaller ones." in page
    assert "random real images, packed 4 x 4" in page


@pytest.mark.slow
def test_another_decoder_exports_what_networks_see(
    tesla: Tesla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    (tmp_path / "cosines.py").write_text(documented_decoder())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(engine.settings.decoders.DECODERS, "cosines", "cosines:cosines")
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *sets("distill.decoder=cosines"))[0] == 0
    assert tesla("export", "ws", "--to", "out")[0] == 0
    run = Workspace(Path("ws")).run("ipc-1")
    seen = decode_all(decoder_of(run.frozen().settings.distill, (1, 8, 8)), newest(run)["images"])
    assert torch.equal(before_network(tmp_path / "out" / "train.py")["images"], seen)
    assert not (tmp_path / "out" / "stored").exists()
    assert tesla("show", "ws")[0] == 0

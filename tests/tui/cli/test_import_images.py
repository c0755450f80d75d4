"""`tesla import-images` as a person types it: what it prints, its exit codes, and what can be done with the run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla  # noqa: F401

IMAGES = torch.randn((20, 1, 8, 8), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10).repeat_interleave(2)


def folder_of_pictures(folder: Path, uneven: bool = False) -> Path:
    for k in range(10):
        place = folder / f"new{k:03d}"
        place.mkdir(parents=True)
        for i in range(3 if uneven and k == 4 else 2):
            Image.fromarray(np.full((16, 16, 3), 20 * k + i, dtype=np.uint8)).save(
                place / f"class{k:03d}_id{i:03d}.jpg"
            )
    return folder


def runs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_it_says_what_it_found_before_it_writes(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    value = {"data": [[IMAGES, LABELS], [IMAGES, LABELS]], "accs_all_exps": {"ConvNet": np.array([0.5, 0.6])}}
    torch.save(value, tmp_path / "res_DC.pt")
    code, _, err = tesla("import-images", "ws", "res_DC.pt")
    assert code == 2
    assert "holds 2 sets (data.0.0, data.1.0). Choose one with --experiment, 0 to 1." in one_paragraph(err)
    code, out, _ = tesla("import-images", "ws", "res_DC.pt", "--experiment", 1, "--run", "dc")
    assert code == 0
    words = one_paragraph(out)
    for expected in (
        "Files res_DC.pt (file of torch.save)",
        "data.0.0 float32 (20, 1, 8, 8)",
        "Images data.1.0, channels first: 20, 2 per class",
        "taken for normalised, this workspace's own space",
        "Labels data.1.1: hard labels: class numbers",
        "Classes assumed to be in this dataset's order; --classes FILE gives another: 0 = 0, 1 = 1, 2 = 2, ...",
        "student_lr 0.01, not in the files",
        "accs_all_exps.ConvNet (2,): not chosen",
        "dc: imported from res_DC.pt: normalised images, hard labels",
        "tesla evaluate ws --run dc",
    ):
        assert expected in words
    assert words.index("student_lr") < words.index("dc: imported")


def test_json_is_all_of_the_output(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    folder_of_pictures(tmp_path / "syn", uneven=True)
    code, out, _ = tesla("import-images", "ws", "syn", "--per-class", 2, "--lr", "0.05", "--json", "--run", "sre2l")
    assert code == 0
    found = json.loads(out)
    assert {key: found[key] for key in ("format", "run", "count", "ipc", "space", "student_lr")} == {
        "format": 1, "run": "sre2l", "count": 20, "ipc": 2, "space": "pixels", "student_lr": 0.05,
    }  # fmt: skip
    assert "2 of 2 to 3 per class" in found["per_class"]
    assert runs(tmp_path / "ws" / "runs") == ["sre2l"]


@pytest.mark.slow
def test_pictures_can_be_evaluated_shown_exported_and_reported(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    folder_of_pictures(tmp_path / "syn")
    soft = torch.randn((3, 20, 10), generator=torch.Generator().manual_seed(1))
    torch.save({"images": IMAGES.numpy(), "labels": soft}, tmp_path / "soft.pt")
    assert tesla("import-images", "ws", "syn", "--lr", "0.05", "--run", "pictures", *SETS)[0] == 0
    options = ("--epoch", "mean", "--labels", "logits")
    assert tesla("import-images", "ws", "soft.pt", *options, "--run", "soft", *SETS)[0] == 0
    for name in ("pictures", "soft"):
        assert tesla("evaluate", "ws", "--run", name)[0] == 0
        assert tesla("show", "ws", "--run", name)[0] == 0
        assert tesla("export", "ws", "--run", name, "--to", name)[0] == 0
        assert tesla("report", "ws", "--run", name, "--to", f"{name}.html")[0] == 0
        code, out, _ = tesla("import-images", "ws", name, "--run", f"{name}-again", *SETS)
        assert code == 0
        assert "Classes matched by name (recipe.json)" in one_paragraph(out)
    assert "--labels logits --epoch mean" in (tmp_path / "soft.html").read_text()
    assert tesla("evaluate", "ws", "--run", "soft-again")[0] == 0
    code, out, _ = tesla("status", "ws", "--json")
    measured = {run["name"]: run["test"][0]["accuracies"] for run in json.loads(out)["runs"] if run["test"]}
    assert measured["soft"] == measured["soft-again"]
    assert tesla("doctor", "ws")[0] == 0


def test_wrong_files_leave_nothing(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    broken = IMAGES.clone()
    broken[0, 0, 0, 0] = 1e30
    for name, value in {
        "huge.pt": [broken, LABELS],
        "alone.pt": {"images": IMAGES},
        "logits.pt": [IMAGES, torch.randn(20, 10)],
        "epochs.pt": [IMAGES, torch.rand(4, 20, 10).softmax(dim=2)],
        "doubtful.pt": [IMAGES.abs(), LABELS],
        "fkd.pt": [torch.rand(20, 4), torch.zeros(20), None, None, None, torch.randn(20, 10)],
    }.items():
        torch.save(value, tmp_path / name)
    (tmp_path / "text.pt").write_text("no tensors here")
    (tmp_path / "text.parquet").write_text("no table here")
    folder_of_pictures(tmp_path / "uneven", uneven=True)
    (tmp_path / "empty").mkdir()
    for words, code, expected in (
        (["huge.pt"], 1, "which no image has"),
        (["alone.pt"], 2, "alone.pt holds images only. Add its labels file as the second argument."),
        (["logits.pt"], 1, "--labels logits"),
        (["epochs.pt"], 2, "Choose with --epoch mean, or the number of an epoch, 0 to 3."),
        (["doubtful.pt"], 1, "Say what they are: --space pixels, --space normalised or --space whitened."),
        (["fkd.pt"], 1, "Import the folder of pictures alone"),
        (["text.pt"], 1, "cannot be read as a file of tensors"),
        (["text.parquet"], 1, "cannot be read as Parquet"),
        (["uneven"], 1, "Import the first 2 of each with --per-class 2."),
        (["empty"], 2, "holds no distilled set"),
        (["huge.pt", "--classes", "none.txt"], 2, "none.txt cannot be read"),
        (["huge.pt", "--mean", "0.5"], 2, "--mean and --std must be used together"),
    ):
        found, out, err = tesla("import-images", "ws", *words, "--lr", "0.01")
        assert (found, words) == (code, words)
        assert expected in one_paragraph(err)
        assert "Classes" not in out
    assert runs(tmp_path / "ws" / "runs") == []

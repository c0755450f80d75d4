"""An export for others: its card, the hub's header, the code in it, and nothing of its maker."""

import getpass
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from engine.errors import UsageError
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings import resolve_settings
from engine.tools.exchange.card import dataset_card
from engine.tools.exchange.export import exporting
from engine.tools.exchange.import_images import Wanted, import_images
from tests.conftest import TINY
from tests.engine.data.trees import make


def exported(workspace: Workspace, folder: Path, classes: int, ipc: int = 2, **how: Any) -> tuple[Path, Tensor, Tensor]:
    """An export of random images with soft labels, and what is in it."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn((classes * ipc, 1, 8, 8), generator=generator)
    labels = (
        torch.eye(classes).repeat_interleave(ipc, 0) + torch.rand((classes * ipc, classes), generator=generator) / 2
    )
    labels /= labels.sum(1, keepdim=True)
    folder.mkdir(exist_ok=True)
    torch.save({"images": images, "labels": labels, "lr": 0.02}, folder / "set.pt")
    if not workspace.run("r").exists:
        run_to_end(import_images(workspace, "r", Wanted(folder / "set.pt", space="normalised"), TINY))
    out = folder / f"out-{len(list(folder.iterdir()))}"
    run_to_end(exporting(workspace, workspace.run("r"), out, **how))
    return out, images, labels


def header(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    return found


def code(out: Path) -> str:
    """The Python of the card, run in the export's folder."""
    found = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_a_card_has_a_dataset_and_the_names_and_shapes_that_the_hub_shows(workspace: Workspace, tmp_path: Path) -> None:
    import datasets

    out, images, labels = exported(workspace, tmp_path / "files", 10)
    head = header(out)
    assert (head["pretty_name"], head["license"]) == ("Digits, 8x8, distilled to 2 images per class", "cc-by-4.0")
    table_file = next((out / "data").iterdir()).relative_to(out).as_posix()
    assert head["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": table_file}]}]
    # What the hub's viewer shows without opening a file: the library reads it as it reads the file itself.
    said = datasets.Features._from_yaml_list(head["dataset_info"][0]["features"])
    table = datasets.load_dataset(str(out), split="train")
    assert said == table.features
    assert table.features["label"].names == [str(k) for k in range(10)]
    assert table.features["soft_label"].length == 10
    torch.testing.assert_close(torch.tensor(table["soft_label"][:]), labels, rtol=0, atol=0)

    text = code(out)
    assert len(text[text.index("class Distilled") :].strip().splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["Distilled"](out / "distilled.safetensors")
    loaded = [torch.cat(parts) for parts in zip(*torch.utils.data.DataLoader(made, batch_size=8), strict=True)]
    assert torch.equal(loaded[0], images) and torch.equal(loaded[1], labels)


def test_an_export_says_nothing_of_its_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of the maker's own files, by a path from the workspace, through a link, and by a list of classes."""
    private = tmp_path / "alice-secret"
    make(private / "pets", "train/cat", "train/dog", "test/cat", "test/dog", count=12)
    (private / "link").symlink_to(private / "pets")
    (private / "names.txt").write_text("dog\ncat\n")
    monkeypatch.setenv("HOME", str(private))
    for number, path in enumerate((private / "pets", private / "link", Path("../pets"), Path("~/pets"))):
        chosen = ['dataset.name="folder"', f"dataset.path={json.dumps(str(path))}", 'dataset.classes="../names.txt"']
        effective = resolve_settings(overrides=chosen)
        workspace = Workspace.create(
            private / f"ws{number}", effective, {"dataset.name", "dataset.path", "dataset.classes"}
        )
        for layout in ("folder", "pt"):
            out, _, _ = exported(workspace, private / f"files{number}", 2, layout=layout)
            facts = json.loads((out / "recipe.json").read_text())["dataset"]
            name = path.name
            assert (facts["name"], facts["title"], facts["license"]) == (name, name, "unknown")
            assert header(out)["pretty_name"] == f"{name}, distilled to 2 images per class"
            assert header(out)["license"] == "unknown"
            assert "it is not known here" in (out / "README.md").read_text()
            for file in (file for file in out.rglob("*") if file.is_file()):
                data = file.read_bytes()
                for word in (str(private), "alice-secret", socket.gethostname(), getpass.getuser() + "/"):
                    assert word.encode() not in data, (file.name, word)


def test_title_and_licence_are_given_where_they_are_not_known(workspace: Workspace, tmp_path: Path) -> None:
    for layout in ("folder", "pt"):
        out, _, _ = exported(workspace, tmp_path / "files", 10, layout=layout, title="My [digits]", licence="odbl")
        assert header(out)["license"] == "odbl"
        assert header(out)["pretty_name"].startswith("My [digits], ")
        body = (out / "README.md").read_text().split("---\n", 2)[2]
        assert "# My \\[digits\\], " in body and "Licence of the real data: odbl." in body
        facts = json.loads((out / "recipe.json").read_text())["dataset"]
        assert (facts["name"], facts["title"], facts["license"]) == ("digits", "My [digits]", "odbl")
    with pytest.raises(UsageError, match="'MIT License' is not a licence as the hub spells it"):
        exported(workspace, tmp_path / "files", 10, licence="MIT License")


def test_the_header_holds_any_names_of_classes() -> None:
    names = (
        'a: "b"',
        "\\n",
        "line\nbreak\u2028",
        "- no",
        "ä\U0001f600",
        "same",
        "same",
        "'",
        "---\nlicense: evil",
        "\x07",
    )
    facts = {
        "dataset": {"title": 'x"\n---\n', "license": "unknown", "classes": list(names), "source": "", "test_images": 1,
                    "train_images": 1, "fingerprint": "0"},
        "image": {"channels": 1, "resolution": 8, "space": "normalise"}, "ipc": 1, "formation": 2, "iteration": 0,
        "made_by": "t", "run": "r", "origin": {"files": []}, "method": "m", "settings": {},
        "training": {"epochs": 1, "student_lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch": 1, "lr_decay": "-",
                     "measured_with": "dsa"},
    }  # fmt: skip
    tables = {"default": "data/a.parquet", "stored": "stored/b.parquet"}
    head = yaml.safe_load(dataset_card(facts, [], names, tables, False).split("---\n")[1])
    assert head["pretty_name"] == 'x"---, distilled to 1 image per class' and head["license"] == "unknown"
    assert [info["config_name"] for info in head["dataset_info"]] == ["default", "stored"]
    for info in head["dataset_info"]:
        found = info["features"][1]["dtype"]["class_label"]["names"]
        assert list(found.values()) == [*names[:5], "same (5)", "same (6)", *names[7:]]


def test_two_exports_in_folders_of_one_name_are_not_taken_for_each_other(workspace: Workspace, tmp_path: Path) -> None:
    """`datasets` caches by the folder's name and the card."""
    import datasets

    found = []
    for seed in (1, 2):
        images = torch.rand((10, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
        torch.save({"images": images, "labels": torch.arange(10), "lr": 0.01}, tmp_path / "set.pt")
        run_to_end(import_images(workspace, f"r{seed}", Wanted(tmp_path / "set.pt", space="pixels"), TINY))
        out = tmp_path / str(seed) / "out"
        out.parent.mkdir()
        run_to_end(exporting(workspace, workspace.run(f"r{seed}"), out))
        table = datasets.load_dataset(str(out), split="train")
        with Image.open(next((out / "images").glob("3-*/0000.png"))) as picture:
            assert np.array_equal(np.asarray(table[3]["image"]), np.asarray(picture))
        found.append(np.asarray(table[3]["image"]))
    assert not np.array_equal(*found)

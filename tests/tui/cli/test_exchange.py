"""Files of other implementations from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla  # noqa: F401


@pytest.mark.slow
def test_buffers_and_images_there_and_back(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    code, out, _ = tesla("export-buffers", "ws", "--to", "buffers", "--per-file", 1)
    assert code == 0
    assert "Wrote 2 trajectories of 2 epochs in 2 files" in out
    assert "a share of 0.1" in (tmp_path / "buffers" / "README.md").read_text()

    files = sorted((tmp_path / "buffers").glob("*.pt"))
    code, out, err = tesla("import-buffers", "ws", *files, "--name", "mtt")
    assert code == 1
    assert "parameter 1 of 10, features.0.weight, has shape (4, 1, 3, 3)" in one_paragraph(err)
    assert "--set network.width=4 --set network.depth=2" in one_paragraph(err)
    code, out, _ = tesla("import-buffers", "ws", *files, "--name", "mtt", "--set", "network.width=4")
    assert code == 0
    words = one_paragraph(out)
    assert "2 trajectories of 2 epochs, imported from replay_buffer_0.pt, replay_buffer_1.pt" in words
    assert "not known: teachers.lr, teachers.batch" in words
    assert "Taken for teachers of network.name = convnet." in words and "convnet-batchnorm" in words
    assert "run ws --set teachers.buffer=mtt" in words
    assert "may have seen the 10% of training images that are held out" in words

    code, out, _ = tesla("config", "ws", "--set", "teachers.buffer=mtt", "--set", "distill.max_start_epoch=1", "--json")
    assert json.loads(out)["teachers.count"] == {"value": 2, "origin": "buffer mtt"}
    sets = [text for text in SETS if "width" not in text and "teachers." not in text and text != "--set"]
    sets = [word for text in (*sets, "teachers.buffer=mtt") for word in ("--set", text)]
    assert tesla("run", "ws", "--ipc", 1, "--run", "theirs", *sets)[0] == 0
    code, out, _ = tesla("status", "ws")
    assert "Teachers mtt: 2 trajectories of 2 epochs" in one_paragraph(out)

    code, out, _ = tesla("export", "ws", "--run", "ipc-1", "--to", "pt", "--format", "pt")
    assert code == 0
    wanted = ["images_best.pt", "labels_best.pt", "--lr", "lr_best.pt"]
    wanted = [word if word == "--lr" else str(tmp_path / "pt" / word) for word in wanted]
    assert torch.load(wanted[0]).shape == (10, 1, 8, 8)
    code, out, _ = tesla("import-images", "ws", *wanted, "--run", "again", *SETS)
    assert code == 0
    assert "imported from images_best.pt and labels_best.pt: normalised images, hard labels" in one_paragraph(out)
    code, out, _ = tesla("evaluate", "ws", "--run", "again")
    assert code == 0
    code, out, _ = tesla("status", "ws", "--json")
    runs = {run["name"]: run for run in json.loads(out)["runs"]}
    assert runs["again"]["test"][0]["accuracies"] == runs["ipc-1"]["test"][0]["accuracies"]
    assert runs["again"]["state"] == "imported"
    code, out, _ = tesla("status", "ws")
    assert "made elsewhere" in out
    code, _, err = tesla("run", "ws", "--run", "again", *SETS)
    assert code == 2
    assert "is not distilled further" in one_paragraph(err)
    code, _, err = tesla("plan", "ws", "--run", "again", *SETS)
    assert code == 2
    assert "is not distilled further" in one_paragraph(err)
    for command in (["show", "ws", "--run", "again"], ["doctor", "ws"], ["report", "ws", "--run", "again"]):
        assert tesla(*command)[0] == 0


def test_mistakes_are_one_paragraph(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    (tmp_path / "x.pt").write_bytes(b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.")
    np.save(tmp_path / "images.npy", np.zeros((10, 1, 8, 8), dtype=np.float32))
    for command, code, words in (
        (["import-buffers", "ws", "x.pt"], 1, "x.pt"),
        (["import-buffers", "ws", "y.pt"], 2, "y.pt does not exist"),
        (["import-buffers", "ws", "ws"], 2, "ws is not a file"),
        (["import-images", "ws", "x.pt"], 1, "x.pt"),
        (["import-images", "ws", "images.npy"], 2, "holds images only"),
        (["import-images", "ws", "y.pt"], 2, "y.pt does not exist"),
        (["import-images", "ws", "x.pt", "x.pt"], 1, "x.pt"),
        (["export-buffers", "ws", "--to", "out"], 2, "There are no teachers"),
        (["run", "ws", "--set", "teachers.buffer=none"], 2, "There is no imported teacher buffer none"),
        (["run", "ws", "--set", "teachers.buffer=../x"], 2, "teachers.buffer"),
    ):
        found, _, err = tesla(*command)
        assert (found, command) == (code, command)
        assert words in one_paragraph(err)

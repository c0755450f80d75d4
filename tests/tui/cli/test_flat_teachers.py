"""FTD's teachers, DATM's labels and the published evaluation through the front door: stopped, resumed, exported."""

import json
import runpy
import signal
import sys
from pathlib import Path

import pytest
from torch import Tensor

from engine.events import Notice
from engine.runs.workspace import Workspace
from engine.training.sgd import CompiledTrainer
from tests.processes import sets
from tests.runs import assert_same_bits, events
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla  # noqa: F401

SETS = sets(
    "teachers.kind=ftd", "teachers.lr=0.1", "teachers.rho=0.05", "labels.kind=learned", "labels.init=teachers",
    "labels.momentum=0.9", "distill.init=correct", "evaluate.batch=4", "evaluate.reset_momentum=true",
)  # fmt: skip


@pytest.mark.slow
def test_stopped_in_mid_epoch_resumed_and_exported(
    tesla: Tesla,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("whole", "stopped"):
        tesla("init", name, "--dataset", "digits")
    assert tesla("run", "whole", "--ipc", 1, *SETS)[0] == 0
    steps, real = 0, CompiledTrainer.step

    def interrupted(self: CompiledTrainer, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        nonlocal steps
        steps += 1
        if steps == 8:  # of six an epoch
            signal.raise_signal(signal.SIGINT)
        return real(self, images, targets, lr)

    with monkeypatch.context() as patch:
        patch.setattr(CompiledTrainer, "step", interrupted)
        code, out, _ = tesla("run", "stopped", "--ipc", 1, *SETS)
    assert code == 130 and "Resume with" in one_paragraph(out)
    assert list(Path("stopped").glob("buffers/*/trajectory-0000.position.safetensors"))
    assert tesla("run", "stopped", "--ipc", 1, *SETS)[0] == 0

    whole, stopped = (Workspace(Path(name)).run("ipc-1") for name in ("whole", "stopped"))
    assert_same_bits(whole, stopped)
    (a,), (b,) = (list(Path(name).glob("buffers/*")) for name in ("whole", "stopped"))
    assert a.name == b.name
    for number in range(2):
        name = f"trajectory-{number:04d}.safetensors"
        assert (a / name).read_bytes() == (b / name).read_bytes()
    identity = json.loads((a / "manifest.json").read_text())["identity"]
    assert identity["kind"] == "ftd" and identity["rho"] == 0.05 and "alpha" not in identity
    assert not any("does not read" in notice.message for notice in events(whole, Notice))
    protocols = [protocol for _, protocol in whole.measured()]
    assert protocols and all(p["batch"] == 4 and p["reset_momentum"] for p in protocols)

    assert tesla("export", "whole", "--run", "ipc-1", "--to", "out")[0] == 0
    training = json.loads(Path("out/recipe.json").read_text())["training"]
    assert training["batch"] == 4 and training["reset_momentum"]
    assert training["lr_decay"] == "x0.1 after half the epochs, momentum cleared"
    monkeypatch.setattr(sys, "argv", ["train.py"])
    runpy.run_path("out/train.py")
    assert "trained on 10 images for 8 epochs" in capsys.readouterr().out

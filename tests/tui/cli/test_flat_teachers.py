"""FTD's teachers, DATM's labels and the published evaluation through the front door: stopped, resumed, exported."""

import json
import runpy
import signal
import sys
from pathlib import Path

import pytest

from engine.events import Notice
from engine.runs.workspace import Workspace
from tests.engine.faulty import GATE
from tests.forks import ForkedTesla
from tests.processes import HANGS, sets, wait_for
from tests.runs import assert_same_bits, events
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla  # noqa: F401

CHOSEN = (
    "teachers.kind=ftd", "teachers.lr=0.1", "teachers.rho=0.05", "labels.kind=learned", "labels.init=teachers",
    "labels.momentum=0.9", "distill.init=correct", "evaluate.batch=4", "evaluate.reset_momentum=true",
)  # fmt: skip


@pytest.mark.slow
def test_teachers_stopped_in_mid_epoch_end_in_the_same_bits(
    tesla: Tesla,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    options = sets(*CHOSEN, "network.name=tests.engine.faulty:network")
    for name in ("whole", "stopped"):
        tesla("init", name, "--dataset", "digits")
    code, out, _ = tesla("run", "whole", "--ipc", 1, *options)
    assert code == 0 and "2 gradients a step" in one_paragraph(out)
    gate.write_text("16")  # forward passes, two a step: in the second epoch of six steps
    process = ForkedTesla("run", "stopped", "--ipc", 1, *options)
    wait_for(gate.with_suffix(".waits").exists, process)
    process.send_signal(signal.SIGINT)
    gate.unlink()
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130 and "Resume with" in one_paragraph(out)
    assert list(Path("stopped").glob("buffers/*/trajectory-0000.position.safetensors"))
    assert tesla("run", "stopped", "--ipc", 1, *options)[0] == 0
    whole, stopped = (Workspace(Path(name)).run("ipc-1") for name in ("whole", "stopped"))
    assert_same_bits(whole, stopped)
    (a,), (b,) = (list(Path(name).glob("buffers/*")) for name in ("whole", "stopped"))
    assert a.name == b.name
    for number in range(2):
        name = f"trajectory-{number:04d}.safetensors"
        assert (a / name).read_bytes() == (b / name).read_bytes()
    identity = json.loads((a / "manifest.json").read_text())["identity"]
    assert identity["kind"] == "ftd" and identity["rho"] == 0.05 and "alpha" not in identity


@pytest.mark.slow
def test_a_run_with_all_of_it_is_exported_with_its_protocol(
    tesla: Tesla,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *sets(*CHOSEN, "distill.method=datm", "distill.expansion_end=6"))[0] == 0
    run = Workspace(Path("ws")).run("ipc-1")
    assert not any("does not read" in notice.message for notice in events(run, Notice))
    protocols = [protocol for _, protocol in run.measured()]
    assert protocols and all(p["batch"] == 4 and p["reset_momentum"] for p in protocols)
    assert tesla("export", "ws", "--run", "ipc-1", "--to", "out")[0] == 0
    training = json.loads(Path("out/recipe.json").read_text())["training"]
    assert training["batch"] == 4 and training["reset_momentum"]
    assert training["lr_decay"] == "x0.1 after half the epochs, momentum cleared"
    monkeypatch.setattr(sys, "argv", ["train.py"])
    runpy.run_path("out/train.py")
    assert "trained on 10 images for 8 epochs" in capsys.readouterr().out

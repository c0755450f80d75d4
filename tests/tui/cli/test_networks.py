"""Several networks through the front door: evaluation, the cross-architecture study, and what they refuse."""

from pathlib import Path

import pytest

from engine.networks import NETWORKS
from engine.runs.workspace import Workspace
from tests.tui.cli.test_cli import QUICK, SETS, Tesla, one_paragraph, tesla
from tests.tui.cli.test_study import rows_of

__all__ = ["tesla"]

MANY = tuple(name for name in NETWORKS if name not in ("lenet", "resnet18", "vit"))
CHOSEN = [word for name in MANY for word in ("--network", name)]


def test_evaluate_takes_every_network(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", *SETS)[0] == 0
    code, out, err = tesla("evaluate", "ws", *CHOSEN, *QUICK, "--set", "evaluate.baseline=false")
    assert code == 0, err
    assert all(f"({name})" in out for name in MANY)
    workspace = Workspace(tmp_path / "ws")
    run = workspace.run("ipc-1")
    settings = workspace.settings(overrides=("evaluate.epochs=1", "evaluate.repeats=1"), run=run).settings
    found = {r.network: r.mean for r in run.evaluations(settings) if r.split == "test"}
    assert set(MANY) <= found.keys() and all(0 <= mean <= 1 for mean in found.values())
    code, _, err = tesla("evaluate", "ws", "--network", "lenet", *QUICK)
    assert code == 2
    assert "lenet needs images of at least 16x16 pixels; these have 8x8" in one_paragraph(err)
    code, _, err = tesla("evaluate", "ws", "--network", "vgg", *QUICK)
    assert code == 2
    assert f"Known: {', '.join(NETWORKS)}." in one_paragraph(err) and "Did you mean vgg11?" in err
    code, _, err = tesla(
        "run", "ws", "--run", "r", *SETS, "--set", "network.name=vit-benchmark", "--set", "network.width=8",
        "--set", "distill.method=dc",
    )  # fmt: skip
    assert code == 2 and "The network vit-benchmark has dropout" in one_paragraph(err)
    assert not (tmp_path / "ws" / "runs" / "r").exists()


@pytest.mark.slow
def test_the_cross_study_takes_them(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    tesla("run", "ws", *SETS)
    code, _, err = tesla("study", "cross", "ws", "--network", "vgg11", "--network", "vit-benchmark", *QUICK)
    assert code == 0, err
    assert [row["network"] for row in rows_of(tmp_path / "ws", "cross")] == ["vgg11", "vit-benchmark"]

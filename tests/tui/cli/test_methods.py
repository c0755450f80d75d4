"""Other methods through the command line."""

import json
from pathlib import Path

from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla

__all__ = ["tesla"]

PEER = ("--set", "peers.batch_real=16", "--set", "distill.lr_images=1")


def test_a_peer_from_the_command_line(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    code, out, err = tesla("run", "ws", "--run", "dm", *SETS, "--set", "distill.method=dm", *PEER)
    assert code == 0, err
    assert "does not read" in out and "distill.steps" in out
    assert "Checkpoint" in out and "of 6 iterations" in out
    facts = json.loads(tesla("status", "ws", "--json")[1])["runs"][0]
    assert (facts["method"], facts["state"], facts["stage"]) == ("dm", "finished", "done")
    assert facts["teachers_total"] == 0
    assert tesla("evaluate", "ws", "--run", "dm", "--network", "convnet")[0] == 0
    assert tesla("export", "ws", "--run", "dm", "--to", "out")[0] == 0
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["method"].startswith("distribution matching")
    assert tesla("doctor", "ws")[0] == 0
    origin = tesla("config", "ws", "--set", "distill.method=dm")[1]
    assert "method dm" in origin


def test_a_selection_and_the_whole_dataset(tesla: Tesla) -> None:
    tesla("init", "ws")
    for method in ("herding", "whole"):
        more = ("--set", "distill.iterations=0", "--set", "evaluate.whole_epochs=3")
        code, out, err = tesla("run", "ws", "--run", method, *SETS, "--set", f"distill.method={method}", *more)
        assert code == 0, err
        assert "Test accuracy" in out and "iterations (" not in out
        assert ("export ws" in out) == (method == "herding")
        again = tesla("run", "ws", "--run", method)
        assert again[0] == 0 and "is finished" in again[1] and "To continue for more iterations" not in again[1]
    code, _, err = tesla("export", "ws", "--run", "whole", "--to", "out")
    assert code == 2 and "no small set" in one_paragraph(err)


def test_what_a_method_cannot_do_is_said(tesla: Tesla) -> None:
    tesla("init", "ws")
    for command, words in (
        (("teach", "ws", "--set", "distill.method=dsa"), "needs no teachers"),
        (("run", "ws", "--set", "distill.method=dmm"), "Did you mean dm?"),
        (("run", "ws", "--set", "distill.method=random", "--set", "distill.iterations=7"), "iterations = 0"),
    ):
        code, _, err = tesla(*command)
        assert code == 2 and words in one_paragraph(err)
    assert "no runs yet" in tesla("status", "ws")[1]

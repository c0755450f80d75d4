"""What commands say about how good a run is."""

import json
from pathlib import Path

import pytest

from engine.runs.workspace import Workspace
from engine.storage.atomic import read_json, write_json
from tesla_tui.watch.feed import RunFeed
from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla  # noqa: F401

pytestmark = pytest.mark.slow


def flattened(text: str) -> str:
    return one_paragraph(text).replace("│", " ")


def test_a_run_says_what_it_gained_and_how_good_its_teachers_are(tesla: Tesla) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    code, out, _ = tesla("run", "ws", "--ipc", 1, *SETS, "--set", "teachers.batch=1000")
    words = flattened(out)
    assert code == 0
    assert "teachers: held-out accuracy" in words and "143 images; guessing 10.5 %" in words
    assert words.count("The teachers are near guessing") == 1 and "smaller teachers.batch (now 1000)" in words
    assert "95 % interval" in words and "2 and 2 networks on 359 test images" in words
    code, out, _ = tesla("status", "ws")
    assert "Teachers convnet-" in out and "ipc-1: " in out and "95 % interval" in flattened(out)
    facts = json.loads(tesla("status", "ws", "--json")[1])["runs"][0]
    (outcome,) = facts["outcomes"]
    assert outcome["low"] < outcome["difference"] < outcome["high"]
    assert len(facts["teachers"]["accuracies"]) == 2 and facts["teachers"]["images"] == 143
    # Evaluated again, with one network: no interval.
    out = tesla("evaluate", "ws", "--set", "evaluate.repeats=1")[1]
    assert "no interval from 1 and 1 networks; set evaluate.repeats" in flattened(out)


def test_a_run_that_was_not_improved_says_so_everywhere(tesla: Tesla) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    run = Workspace(Path("ws")).run("ipc-1")
    for path in run.folder.glob("evaluations/*-holdout-distilled-*.json"):  # what the next command selects by
        value = read_json(path)
        value["result"]["mean"] = 0.9 if value["result"]["iteration"] == 0 else 0.1
        write_json(path, value)
    (run.folder / "evaluations" / "0000006-test-distilled-convnet.json").unlink()
    code, out, _ = tesla("run", "ws", "--ipc", 1, *SETS)
    words = flattened(out)
    assert code == 0
    assert "No improvement found: no later checkpoint has a higher held-out accuracy than checkpoint 0" in words
    assert "Checkpoint 0 of 6 iterations (held-out accuracy, 90.0 %)" in words
    assert "best" not in words and "Better than" not in words and " none " in words
    assert "ipc-1: No improvement found" in flattened(tesla("status", "ws")[1])
    assert "No improvement found" in flattened(tesla("evaluate", "ws")[1])
    assert "No improvement found" not in flattened(tesla("evaluate", "ws", "--iteration", 6)[1])
    assert tesla("report", "ws", "--run", "ipc-1", "--to", "r.html")[0] == 0
    page = Path("r.html").read_text()
    assert "test accuracy, n = 2: no improvement found" in page and "No improvement found: no later checkpoint" in page
    feed = RunFeed(run)
    feed.catch_up()
    assert "No improvement found" in [line.text for line in feed.view.log if line.kind == "RunFinished"][-1]


def test_a_run_without_an_update_fails(tesla: Tesla) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    code, _, err = tesla(
        "run", "ws", "--ipc", 1, *SETS, "--set", "distill.iterations=1", "--set", "distill.max_loss=1e-6"
    )
    assert code == 1
    assert "its only iteration was skipped (distill.max_loss: 1)" in one_paragraph(err)
    assert "Start a new run (--run NAME) with a larger distill.max_loss" in one_paragraph(err)
    (run,) = json.loads(tesla("status", "ws", "--json")[1])["runs"]
    assert run["state"] == "failed" and run["iteration"] == 1 and not run["test"]

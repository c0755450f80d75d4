"""An experiment of tiny runs on digits: run, stopped, collected and shown, by the commands of docs/results.md."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results.driver import Driver, chosen_rates
from benchmarks.results.experiments import Experiment, load_experiments
from benchmarks.results.records import ROOT, collect, read_records, usable, write_records
from engine.events import RunStarted
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.training.evaluation import RATES
from tests.conftest import TINY
from tests.processes import HANGS, NEVER, wait_for
from tests.runs import events

pytestmark = pytest.mark.slow


def table(key: str, members: str, more: str = "") -> str:
    """An experiment of tiny runs, as experiments.toml has it."""
    sets = json.dumps(["teachers.seed=0", *(text for text in TINY if "lr_images" not in text)])
    return (
        f'[{key}]\ntitle = "Tiny"\nworkspace = "w"\ndataset = "digits"\nset = {sets}\nseeds = [0, 1]\n'
        f"members = [{members}]\n{more}\n"
    )


TINY_TOML = table(
    "T",
    '{ name = "a", label = "exact", search = true }, { name = "r", label = "random", set = ["distill.method=random"] }',
    'search = { rates = [1, 10], seed = 9, set = ["evaluate.repeats=1", "evaluate.baseline=false"] }',
)
OTHER_NETWORKS = table(
    "D",
    '{ name = "a", label = "exact" }',
    'runs_of = "T"\nnetworks = ["mlp"]\ntests = ["evaluate.repeats=1", "evaluate.other_networks_lr=tuned"]',
)


def experiments(folder: Path, text: str) -> tuple[Path, dict[str, Experiment]]:
    file = folder / "experiments.toml"
    file.write_text(text)
    return file, load_experiments(file)


def results(file: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks.results`."""
    command = [sys.executable, "-m", "benchmarks.results", "--experiments", str(file), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)


def is_rate(value: object) -> bool:
    return isinstance(value, float)


def test_an_experiment_from_its_runs_to_its_table(tmp_path: Path) -> None:
    file, known = experiments(tmp_path, TINY_TOML + OTHER_NETWORKS)
    folder = tmp_path / "w"
    told: list[str] = []
    assert Driver(known["T"], folder, (), 2, told.append).run() == 0
    assert [line.split()[0] for line in told] == ["[1/2]", "[2/2]", "[1/4]", "[2/4]", "[3/4]", "[4/4]"]  # search first
    assert told[2].endswith(" left")
    chosen = chosen_rates(known["T"], folder)["a"]
    assert chosen in (1, 10)

    again: list[str] = []
    assert Driver(known["T"], folder, (), 2, again.append).run() == 0
    assert again == []  # everything is finished

    assert Driver(known["D"], folder, (), 1, again.append).run() == 0
    assert len(again) == 2

    (tmp_path / "docs").mkdir()
    for page in ("results", "index"):
        (tmp_path / "docs" / f"{page}.md").write_text(
            "<!-- results:T -->\n<!-- end -->\n<!-- results:D -->\n<!-- end -->\n"
        )
    for key in ("T", "D"):
        done = results(file, "--root", tmp_path, "collect", key, "--folder", folder, "--machine", "a box")
        assert (done.returncode, done.stderr) == (0, "")
    run = next(record for record in read_records(tmp_path, "T") if record.run == "a-seed-0")
    own = Workspace(folder).run("a-seed-0")
    assert (run.finished, run.iteration, run.machine, run.threads) == (True, 6, "a box", 1)
    assert run.settings["distill.lr_images"] == chosen
    measured = {(r.split, r.subject, r.network): r for r in own.evaluations()}
    assert run.test["convnet"] == pytest.approx(measured["test", "distilled", "convnet"].accuracies, abs=1e-5)
    assert run.random["convnet"] == pytest.approx(measured["test", "random", "convnet"].accuracies, abs=1e-5)
    assert [at for at, _ in run.holdout] == [0, 3, 6]
    networks = {name: len(accuracies) for name, accuracies in read_records(tmp_path, "D")[0].test.items()}
    assert networks == {"convnet": len(run.test["convnet"]), "mlp": 1}
    tried = [result.mean for result, protocol in own.measured() if is_rate(protocol.get("other_networks_lr"))]
    assert len(tried) == 2 * len(RATES) + 1

    done = results(file, "--root", tmp_path, "tables")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "docs" / "results.md").read_text()
    assert f"| exact | {chosen:g} |" in text
    assert "| test accuracy, % | convnet | mlp |" in text
    listed = results(file, "run", "T", "--folder", folder, "--list")
    assert f"--set distill.lr_images={chosen}\n" in listed.stdout
    # Checkpoints take the room; without them the figures are the same.
    for path in own.folder.glob("checkpoints/*"):
        path.unlink()
    again = {record.run: record for record in collect(known["T"], folder).records}
    assert again["a-seed-0"].test == run.test


def test_runs_of_another_folder_are_not_run_again_with_kept(tmp_path: Path) -> None:
    file, known = experiments(tmp_path, TINY_TOML)
    first, second = tmp_path / "first", tmp_path / "second"
    assert Driver(known["T"], first, (), 2, lambda line: None).run() == 0
    kept = collect(known["T"], first).records
    write_records(tmp_path, "T", [record for record in kept if record.run != "a-seed-1"])

    done = results(file, "--root", tmp_path, "run", "T", "--folder", second, "--kept")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["a-seed-1"]
    rate = next(record.settings["distill.lr_images"] for record in kept if record.run == "a-seed-0")
    assert Workspace(second).run("a-seed-1").frozen().flat()["distill.lr_images"] == rate

    before = read_records(tmp_path, "T")
    done = results(file, "--root", tmp_path, "collect", "T", "--folder", second)
    assert done.returncode == 1 and "a-seed-0, r-seed-0, r-seed-1" in done.stderr and "Add --kept" in done.stderr
    assert read_records(tmp_path, "T") == before
    done = results(file, "--root", tmp_path, "collect", "T", "--folder", second, "--kept")
    assert (done.returncode, done.stderr) == (0, "")
    both = {record.run: record.test for record in read_records(tmp_path, "T")}
    assert both == {record.run: record.test for record in kept}  # the same bits, wherever it ran

    # What is kept of other settings is not of this experiment.
    other = experiments(tmp_path, TINY_TOML.replace("teachers.seed=0", "teachers.seed=1"))[1]["T"]
    assert usable(other, kept) == {}
    assert set(usable(known["T"], kept)) == set(both)


def test_ctrl_c_saves_and_the_same_command_resumes(tmp_path: Path) -> None:
    long = TINY_TOML.replace("distill.iterations=6", f"distill.iterations={NEVER}")
    file, known = experiments(tmp_path, long)
    folder = tmp_path / "w"
    words = ["--experiments", str(file), "run", "T", "--folder", str(folder), "--workers", "1"]
    run = Run(folder / "runs" / "a-lr1-seed-9")
    reached = [0]
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.results", *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_for(lambda: run.exists and read_history(run).iteration > reached[-1], process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=HANGS)
        assert (process.returncode, said) == (130, "Stopped and saved. Run the same command to resume.\n")
        reached.append(max(run.checkpoints()))
    started = [event.resumed_from for event in events(run, RunStarted)]
    assert started == [None, reached[1]]
    assert 0 < reached[1] < reached[2]
    found = collect(known["T"], folder)
    stopped = next(record for record in found.records if record.run == run.name)
    assert (stopped.finished, stopped.complete, stopped.test) == (False, False, {})
    assert "r-seed-0" in found.missing


def test_a_run_with_other_settings_is_left_out(tmp_path: Path) -> None:
    file, known = experiments(tmp_path, TINY_TOML)
    folder = tmp_path / "w"
    told: list[str] = []
    assert Driver(known["T"], folder, ("r",), 2, told.append).run() == 0
    _, changed = experiments(tmp_path, TINY_TOML.replace("network.width=4", "network.width=8"))
    found = collect(changed["T"], folder)
    assert found.records == []
    assert found.wrong[0] == "r-seed-0: network.width is 4, the experiment has 8"
    done = results(file, "--root", tmp_path, "collect", "T", "--folder", folder)
    assert (done.returncode, done.stdout.strip()) == (1, f"{folder} has no run of experiment T; nothing was written.")
    assert "network.width is 4" in done.stderr
    # `tesla run` refuses it too: its words are shown, and the experiment fails.
    del told[:]
    assert Driver(changed["T"], folder, ("r",), 2, told.append).run() == 1
    assert any("network.width" in line and "Error" in line for line in told)
    assert told[-1].startswith("2 failed: r-seed-")


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    file, _ = experiments(tmp_path, TINY_TOML)
    done = results(file, "run", "X")
    assert "There is no experiment 'X'. There are: T." in done.stderr
    done = results(file, "run", "T", "--only", "z")
    assert "has no member z. It has: a, r." in done.stderr
    done = results(file, "--root", tmp_path, "collect", "T", "--folder", tmp_path / "none")
    assert (done.returncode, done.stderr.startswith("Error: There is no folder")) == (2, True)

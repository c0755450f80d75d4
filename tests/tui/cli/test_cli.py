"""The command line through its front door: what a person types, sees, and breaks."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.runs.lease import acquire_run
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from tesla_tui.main import main
from tests.conftest import TINY
from tests.forks import ForkedTesla
from tests.processes import COMMAND, HANGS, NEVER, sets, wait_for
from tests.runs import newest

Tesla = Callable[..., tuple[int, str, str]]
SETS = sets()
QUICK = ("--set", "evaluate.epochs=1", "--set", "evaluate.repeats=1")


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tesla:
    """`tesla("run", "ws")` -> exit code, standard output, standard error. Runs in an empty folder, 100 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tesla", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return int(code), captured.out, captured.err

    return call


def one_paragraph(text: str) -> str:
    assert "Traceback" not in text
    return " ".join(text.split())


def test_the_three_lines(tesla: Tesla, tmp_path: Path) -> None:
    code, out, _ = tesla("init", "ws", "--dataset", "digits")
    assert code == 0
    assert "tesla run ws --ipc 1" in out
    code, out, _ = tesla("run", "ws", "--ipc", 2, *SETS)
    assert code == 0
    words = one_paragraph(out)
    assert "epochs 3 to 4 are not needed, which saves 50% of the training" in words
    assert "random real images" in words
    assert "tesla export ws --run ipc-2" in words
    code, out, _ = tesla("export", "ws", "--run", "ipc-2", "--to", "out", "--with-test")
    assert code == 0
    assert "Wrote 20 images of 10 classes" in out
    assert (tmp_path / "out" / "images" / "7-7" / "0001.png").exists()

    # The same command on a finished run says so, at once, and what can be done next.
    code, out, _ = tesla("run", "ws", "--ipc", 2, *SETS)
    assert code == 0
    assert "ipc-2 is finished" in out
    assert "distill.iterations=12" in out


@pytest.mark.slow
def test_an_export_is_useful_without_us(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws", "--dataset", "digits")
    quick = (
        "network.width=16",
        "teachers.count=3",
        "distill.iterations=60",
        "distill.steps=10",
        "distill.lr_images=100",
        "dataset.holdout=0",
        "evaluate.baseline=false",
        "evaluate.epochs=300",
        "evaluate.repeats=3",
    )
    settings = {text.partition("=")[0]: text for text in (*TINY, *quick)}
    sets = [word for text in settings.values() for word in ("--set", text)]
    assert tesla("run", "ws", "--ipc", 1, *sets)[0] == 0
    result = next(
        r for r in Workspace(Path("ws")).run("ipc-1").evaluations() if r.split == "test" and r.subject == "distilled"
    )
    out = tmp_path / "out"
    assert tesla("export", "ws", "--to", out, "--with-test")[0] == 0
    script = subprocess.run(
        [sys.executable, "-I", str(out / "train.py")], capture_output=True, text=True, cwd="/", check=True
    )  # -I: our packages' folder is not on the path
    accuracy = float(script.stdout.split("images:")[1].split("%")[0])
    # One network against the mean of three.
    assert accuracy == pytest.approx(100 * result.mean, abs=6)
    assert accuracy > 60
    assert "import engine" not in (out / "train.py").read_text()

    import datasets
    from safetensors.torch import load_file

    tensors = load_file(out / "distilled.safetensors")
    assert tensors["images"].shape == (10, 1, 8, 8)
    assert torch.allclose(tensors["labels"].sum(dim=1), torch.ones(10))
    with Image.open(out / "images" / "3-3" / "0000.png") as picture:
        shown = np.asarray(picture)
    assert np.abs(shown / 255 - tensors["pixels"][3, 0].clamp(0, 1).numpy()).max() <= 0.5 / 255 + 1e-6
    table = datasets.load_dataset(str(out), split="train")
    assert table.features["label"].names == [str(k) for k in range(10)]
    assert np.array_equal(np.asarray(table[3]["image"]), shown)
    assert len(table[3]["soft_label"]) == 10
    card = (out / "README.md").read_text()
    assert f"{100 * result.mean:.1f}" in card
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["training"]["student_lr"] > 0


@pytest.mark.slow
def test_status_show_config_evaluate(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    assert "no runs yet" in tesla("status", "ws")[1]
    tesla("run", "ws", "--ipc", 1, *SETS)
    facts = json.loads(tesla("status", "ws", "--json")[1])["runs"][0]
    assert (facts["name"], facts["state"], facts["iteration"], facts["stage"]) == ("ipc-1", "finished", 6, "done")
    assert 0 <= facts["test"][0]["mean"] <= 1
    assert "6/6" in tesla("status", "ws")[1]

    code, out, _ = tesla("show", "ws")
    assert code == 0
    assert out.count("\n") >= 6
    assert " 9" in out
    assert tesla("show", "ws", "--iteration", 0, "--png", "a.png")[0] == 0
    with Image.open(tmp_path / "a.png") as grid:
        assert grid.size[0] > 300
    assert "There is no class 'cat'" in one_paragraph(tesla("show", "ws", "--class", "cat")[2])
    assert "has no checkpoint 5" in one_paragraph(tesla("show", "ws", "--iteration", 5)[2])

    rows = json.loads(tesla("config", "ws", "--run", "ipc-1", "--json")[1])
    assert rows["distill.steps"] == {"value": 4, "origin": "command line"}
    assert rows["teachers.batch"]["origin"] == "preset digits"
    assert "preset digits" in tesla("config", "ws", "--changed")[1]

    code, out, _ = tesla("evaluate", "ws", "--network", "vit", *QUICK)
    assert code == 0
    assert "vit" in out
    assert tesla("evaluate", "ws", "--set", "distill.steps=9")[0] == 2
    code, out, _ = tesla("doctor", "ws")
    assert code == 0
    assert "3 checkpoints" in out or "checkpoints" in out
    path = Workspace(Path("ws")).run("ipc-1").checkpoint_path(6)
    whole = path.read_bytes()
    for damaged, words in (
        (whole[:-1], "0000006.safetensors is not a complete safetensors file"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "0000006.safetensors does not match its checksum"),
    ):
        path.write_bytes(damaged)
        code, out, _ = tesla("doctor", "ws")
        assert code == 1
        assert words in one_paragraph(out)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("run nowhere", 2, "There is no folder nowhere"),
        ("run empty", 2, "empty is not a workspace"),
        ("status empty", 2, "is not a workspace"),
        ("init ws2 --dataset fashon-mnist", 2, "Did you mean fashion-mnist"),
        ("init ws2 --dataset ./absent", 1, "no such folder"),
        ("init ws2 --dataset pictures", 1, "only the class 'a'"),
        ("init ws", 2, "is already a workspace"),
        ("init full", 2, "exists and is not empty"),
        ("run ws --set distil.steps=3", 2, "Did you mean `distill.steps`"),
        ("run ws --ipc 0", 2, "--ipc"),
        ("run ws --ipc 500", 2, "smallest class"),
        ("run ws --run ../../x", 2, "is not a valid run name"),
        ("run ws --set distill.batch=99", 2, "10 synthetic images"),
        ("run ws --set teachers.epochs=2", 2, "teachers.epochs = 2 is too short"),
        ("run ws --set network.name=mine:net", 2, "There is no module mine"),
        ("run ws --set dataset.name=cifar10 --set dataset.path=nope", 1, "nope does not exist"),
        ("run ws --set compute.device=cuda:7", 2, "cuda:7 is not available on this machine"),
        ("show ws", 2, "has no runs yet"),
        ("export ws --to out", 2, "has no runs yet"),
        ("export ws", 2, "--to"),
        ("frobnicate", 2, "No such command"),
    ],
)
def test_mistakes_are_one_paragraph(tesla: Tesla, tmp_path: Path, command: str, code: int, words: str) -> None:
    tesla("init", "ws")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "a" / "x.png")
    before = sorted(path for path in tmp_path.rglob("*"))
    found, _, err = tesla(*command.split())
    assert found == code
    assert words in one_paragraph(err.replace("│", " "))
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_mistyped_key_in_the_file_is_found(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    with open(tmp_path / "ws" / "tesla.toml", "a") as file:
        file.write("\n[ipc.10.distill]\nstepps = 3\n")
    code, _, err = tesla("run", "ws", "--ipc", 1)
    assert code == 2
    assert "Did you mean `distill.steps`" in one_paragraph(err)


@pytest.mark.slow
def test_changed_settings_are_refused_by_name(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    tesla("run", "ws", "--ipc", 1, *SETS)
    code, _, err = tesla("run", "ws", "--ipc", 1, *SETS, "--set", "distill.momentum=0.9")
    assert code == 2
    assert "distill.momentum was 0.5, now 0.9" in one_paragraph(err)
    # Without the options of the first command the run goes on as it was started.
    assert tesla("run", "ws", "--run", "ipc-1")[0] == 0
    toml = tmp_path / "ws" / "tesla.toml"
    toml.write_text(toml.read_text().replace("# seed = 0", "seed = 5"))
    code, _, err = tesla("run", "ws", "--run", "ipc-1")
    assert code == 2
    assert "seed was 0, now 5" in one_paragraph(err)


@pytest.mark.slow
def test_somebody_else_drives(tesla: Tesla) -> None:
    tesla("init", "ws")
    with run_to_end(acquire_run(Workspace(Path("ws")).run("ipc-1"))):
        code, _, err = tesla("run", "ws", "--ipc", 1, *SETS)
    assert code == 1
    assert f"by process {os.getpid()}" in one_paragraph(err)


def long(iterations: int = NEVER) -> list[str]:
    """Options of a run that does not end before it is stopped, or with so many iterations."""
    return sets(f"distill.iterations={iterations}", "distill.checkpoint_every=7", "evaluate.every=25")


def tells(run: Run, kind: str, times: int = 1) -> Callable[[], bool]:
    """A condition: the journal has so many events of a kind."""
    return lambda: run.journal_file.exists() and run.journal_file.read_text().count(f'"kind": "{kind}"') >= times


@pytest.mark.slow
def test_killed_twice_ends_in_the_same_bits(tesla: Tesla) -> None:
    tesla("init", "whole")
    tesla("init", "killed")
    run = Workspace(Path("killed")).run("ipc-1")
    for kind, times in (("TeacherEpoch", 1), ("IterationDone", 17), ("IterationDone", 37)):
        process = ForkedTesla("run", "killed", "--ipc", 1, *long())
        wait_for(tells(run, kind, times), process)
        process.kill()
        process.communicate()
    assert json.loads(tesla("status", "killed", "--json")[1])["runs"][0]["state"] == "interrupted"
    iterations = max(run.checkpoints()) + 10
    for name in ("killed", "whole"):
        assert tesla("run", name, "--ipc", 1, *long(iterations))[0] == 0
    a, b = newest(Workspace(Path("whole")).run("ipc-1")), newest(run)
    assert max(run.checkpoints()) == iterations
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "kind"), [(signal.SIGINT, 130, "IterationDone"), (signal.SIGTERM, 143, "TeachersPlanned")]
)
def test_a_signal_saves_and_stops(tesla: Tesla, number: signal.Signals, code: int, kind: str) -> None:
    """A process from its first line on; every stage and signal is in test_signals.py."""
    tesla("init", "ws")
    run = Workspace(Path("ws")).run("ipc-1")
    command = [*COMMAND, "run", "ws", "--ipc", "1", *long()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(tells(run, kind), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == code, err
    assert re.search(r"Resume with: \S+.* run ws --ipc 1 --set", " ".join(out.split()))
    assert json.loads(tesla("status", "ws", "--json")[1])["runs"][0]["state"] == "stopped"
    assert tesla("run", "ws", "--ipc", 1, *long(max(run.checkpoints(), default=0) + 10))[0] == 0


def test_help_is_quick_and_lists_everything(tesla: Tesla) -> None:
    code, out, _ = tesla("--help")
    assert code == 0
    for name in ("init", "run", "teach", "evaluate", "export", "status", "show", "config", "demo", "doctor"):
        assert f" {name} " in out
        assert "Example" in tesla(name, "--help")[1]
    assert tesla()[0] in (0, 2)
    assert tesla("--version")[1].startswith("tesla 0.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import tesla_tui.cli.app", ("torch", "pydantic", "datasets", "kornia", "textual", "numpy")),
        (
            "import engine.session.session, engine.tools.exchange.export, engine.tools.doctor",
            ("textual", "typer", "rich", "click", "datasets"),
        ),
    ],
)
def test_heavy_things_are_imported_late(code: str, forbidden: tuple[str, ...]) -> None:
    script = f"{code}; import sys; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_run_that_compiles_nothing_does_not_load_the_compiler(tesla: Tesla, tmp_path: Path) -> None:
    """It takes PyTorch a second or more; a `torch.optim` optimiser, for one, loads all of it."""
    assert tesla("init", tmp_path / "ws", "--dataset", "digits")[0] == 0
    script = (
        f"import sys; sys.argv = {['tesla', 'run', str(tmp_path / 'ws'), *SETS]!r}\n"
        "from tesla_tui.main import main\n"
        "try:\n    main()\nfinally:\n    print([m for m in sys.modules if m.startswith('torch._dynamo')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Test accuracy" in done.stdout and done.stdout.endswith("\n[]\n")


def test_class_names_cannot_steer_the_terminal(tesla: Tesla, tmp_path: Path) -> None:
    for k, name in enumerate(("\x1b[31mred", "blue")):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(12):
            rng = np.random.default_rng(20 * k + i)
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / "pics" / name / f"{i}.png")
    tesla("init", "ws", "--dataset", "./pics")
    code, out, err = tesla("run", "ws", "--ipc", 1, *SETS, "--set", "teachers.batch=8")
    assert code == 0, err
    assert "\x1b[31m" not in out
    assert "\N{REPLACEMENT CHARACTER}" in out


@pytest.mark.slow
def test_a_detached_run_goes_on_without_us_and_stops_when_told(tesla: Tesla, tmp_path: Path) -> None:
    folder = tmp_path / "ws"
    sets = [word for text in (*TINY, "distill.iterations=100000", "evaluate.every=5000") for word in ("--set", text)]
    assert tesla("init", folder, "--dataset", "digits")[0] == 0
    code, said, complaint = tesla("run", folder, "--run", "far", "--detach", *sets)
    assert code == 0, complaint
    assert f"tui {folder} --run far" in said and f"stop {folder} --run far" in said
    run = Run(folder / "runs" / "far")
    pid = json.loads((run.folder / "driver.json").read_text())["pid"]
    try:
        assert is_driven(run) and os.getsid(pid) == pid
        code, _, complaint = tesla("run", folder, "--run", "far", "--detach", *sets)
        assert code == 2 and f"process {pid}" in one_paragraph(complaint)
    finally:
        code, said, complaint = tesla("stop", folder)
    assert code == 0 and "far stopped" in said, complaint
    assert not is_driven(run)
    code, _, complaint = tesla("stop", folder, "--run", "far")
    assert code == 2 and "is not running" in complaint


@pytest.mark.slow
def test_a_detached_run_that_cannot_begin_says_why(tesla: Tesla, tmp_path: Path) -> None:
    folder = tmp_path / "ws"
    tesla("init", folder, "--dataset", "digits")
    code, _, complaint = tesla("run", folder, "--ipc", "100000", "--detach", "--set", "network.width=4")
    words = one_paragraph(complaint)
    assert code == 2 and "more than the smallest class has" in words and "detached.log" in words
    assert "Traceback" not in words

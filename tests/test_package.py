"""What is installed: the wheel and the source archive, their types for a user's checkers, and the name `engine`."""

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.processes import HANGS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHIPPED = (
    "engine/py.typed", "tesla_tui/py.typed", "tesla_tui/live/app.tcss", "tesla_tui/report/report.html.j2",
    "tesla_tui/web/static/page.js", "engine/matching/cpu/winograd.cpp", "engine/tools/exchange/train.py.txt",
    "engine/data/assets/digits-images-idx3-ubyte.gz", "engine/settings/presets.toml",
)  # fmt: skip
PROGRAM = """\
import engine
import torch
from engine.events import Event, IterationDone


def show(event: Event) -> None:
    if isinstance(event, IterationDone):
        print(event.iteration + 1)


workspace: engine.Workspace = engine.open_workspace("ws", dataset="digits")
made: engine.DistilledSet = engine.distil(workspace, ipc=1, settings={"distill.iterations": 5}, on_event=show)
images: torch.Tensor = made.images
found: engine.Accuracy = engine.evaluate(workspace, images, made.labels, made.student_lr, network="resnet18")
rate: float = found.mean + made.student_lr
"""
WRONG = PROGRAM + "classes: int = made.classes\n"


def called(*words: object, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **variables}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=HANGS
    )


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and a source archive of the files that git tracks, built without a network."""
    for needed in ("build", "twine", "setuptools"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("package")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    source = folder / "source"
    for name in filter(None, listed.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    built = called(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=source)
    assert built.returncode == 0, built.stderr
    return next((folder / "dist").glob("*.whl")), next((folder / "dist").glob("*.tar.gz"))


def test_an_index_would_take_them(archives: tuple[Path, Path]) -> None:
    checked = called(sys.executable, "-m", "twine", "check", "--strict", *archives, cwd=archives[0].parent)
    assert checked.returncode == 0, checked.stdout


def test_they_hold_the_program_and_no_tests(archives: tuple[Path, Path]) -> None:
    wheel, source = archives
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"engine", "tesla_tui"}
    assert set(SHIPPED) <= set(names)
    with tarfile.open(source) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert not {"tests", "benchmarks", "docs"} & tops and {"engine", "tesla_tui", "README.md", "LICENSE"} <= tops


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_users_checker_reads_our_types(tmp_path: Path, checker: str) -> None:
    pytest.importorskip(checker)
    if checker == "pyright" and not shutil.which("node"):
        pytest.skip("pyright runs on node")
    strict = ("--strict",) if checker == "mypy" else ("--pythonpath", sys.executable)
    for text, code in ((PROGRAM, 0), (WRONG, 1)):
        (tmp_path / "program.py").write_text(text)
        variables = {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
        done = called(sys.executable, "-m", checker, *strict, "program.py", cwd=tmp_path, **variables)
        assert done.returncode == code, done.stdout + done.stderr
        assert ("int" in done.stdout) == bool(code), done.stdout


@pytest.mark.parametrize("place", ["engine.py", "engine/__init__.py"])
def test_another_module_engine_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    start = ("-m", "tesla_tui.main", "--version")
    refused = called(sys.executable, *start, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert str(tmp_path / place) in refused.stderr and "python -P -m tesla_tui.main" in refused.stderr
    assert called(sys.executable, "-P", *start, cwd=tmp_path, PYTHONPATH=str(ROOT)).returncode == 0
    imported = called(sys.executable, "-c", "import tesla_tui.main", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert f"ImportError: Python finds {tmp_path / place}" in imported.stderr


@pytest.mark.parametrize("package", ["tesla_tui", "engine"])
def test_an_old_python_is_refused_in_one_sentence(tmp_path: Path, package: str) -> None:
    """Of a checkout on the path; pip refuses by the metadata."""
    old = f"import sys; sys.version_info = (3, 10, 13, 'final', 0); import {package}"
    refused = called(sys.executable, "-c", old, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert refused.returncode == 1 and "needs Python 3.11 or newer; this is" in refused.stderr.splitlines()[-1]
    assert ("Traceback" in refused.stderr) == (package == "engine")
    for place in ("engine/__init__.py", "tesla_tui/__init__.py"):  # read as it is by the versions that it refuses
        ast.parse((ROOT / place).read_text(), feature_version=(3, 8))

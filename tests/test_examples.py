"""The examples run and say what they promise."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import TINY
from tests.processes import HANGS

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} <= tested


@pytest.mark.slow
def test_digits(tmp_path: Path) -> None:
    """The notebook: as it is shown, and executed again with what is here."""
    pytest.importorskip("nbconvert")
    pytest.importorskip("ipykernel")
    notebook = EXAMPLES / "digits.ipynb"
    _check_outputs(notebook)
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", tmp_path, notebook]
    path = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    _check_outputs(tmp_path / "digits.ipynb")


def _check_outputs(notebook: Path) -> None:
    """Every cell was executed in order without an error; two pictures are inside."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not {"error"} & {output["output_type"] for output in outputs}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert "(10, 1, 8, 8) images" in printed and "guessing" in printed and "train.py" in printed


def test_distil_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len((EXAMPLES / "distil_digits.py").read_text().splitlines()) <= 30
    made = example("distil_digits").main(tmp_path / "ws", *TINY)
    assert made.images.shape == (10, 1, 8, 8)
    assert "distilled, test: " in capsys.readouterr().out


def test_evaluate_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("distil_digits").main(tmp_path / "ws", *TINY)
    found = example("evaluate_set").main(tmp_path / "ws", "evaluate.epochs=4", "evaluate.repeats=2")
    assert set(found) == {"its labels", "one-hot labels"} and all(0 <= value <= 1 for value in found.values())
    assert "(2 networks)" in capsys.readouterr().out


def test_gradient() -> None:
    compare = example("gradient").compare
    cosine, error = compare(1)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert error < 1e-5
    assert compare(20)[1] > 0.01


def test_custom_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "custom_network", raising=False)
    module = example("custom_network")
    assert module.gradients_agree() < 1e-12
    results = module.main(tmp_path / "ws", *TINY)
    assert set(results) == {"distilled", "random"}
    assert 'name = "custom_network:TinyMixer"' in (tmp_path / "ws" / "tesla.toml").read_text()


@pytest.mark.slow
def test_architecture_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("architecture_search")
    assert module.spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert module.spearman([1, 2, 3, 4], [40, 30, 20, 10]) == pytest.approx(-1)
    # Ranks 0.5, 0.5, 2 against 0, 1, 2, by hand.
    assert module.spearman([1, 1, 5], [1, 2, 3]) == pytest.approx(0.8660254)
    module.WHOLE_EPOCHS = 1
    agreement = module.main(tmp_path / "ws", *TINY, widths=(2, 8), depths=(1, 2))
    assert set(agreement) == {"distilled", "random"}
    assert capsys.readouterr().out.count("width") == 4


@pytest.mark.slow
def test_continual_learning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("continual_learning")
    found = module.main(
        tmp_path / "ws", *TINY, "dataset.resolution=8", "network.depth=2", "teachers.batch=64", updates=40, repeats=1
    )
    assert set(found) == {"nothing", "random", "distilled"}
    for repeats in found.values():
        assert len(repeats) == 1 and len(repeats[0]) == 5
        assert repeats[0][0] == found["nothing"][0][0] > 0.9, "the first step needs no memory"
    # Without a memory only the last two of ten classes are known; with one, more than these.
    assert found["nothing"][0][-1] < 0.25 < min(found["random"][0][-1], found["distilled"][0][-1])
    assert capsys.readouterr().out.count("±") == 15
    # A run distils what its step saw, and no image of a later one.
    steps = sorted((tmp_path / "ws" / "pictures").iterdir())
    assert [sorted(place.name for place in (step / "train").iterdir()) for step in steps] == [
        ["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"], ["8", "9"],
    ]  # fmt: skip


@pytest.mark.slow
def test_plugin(tmp_path: Path) -> None:
    """Installed without a network, from what its pyproject.toml declares, and run in processes of their own."""
    source, site = EXAMPLES / "plugin", tmp_path / "site"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    shutil.copytree(source / "tesla_rings", site / "tesla_rings")
    info = site / "tesla_rings-0.1.0.dist-info"
    info.mkdir()
    facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(facts)
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    path = os.pathsep.join([str(site), str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "TESLA_CONFIG": str(tmp_path / "config"), "TESLA_TRUSTED": ""}

    def tesla(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tesla_tui.main", *words],
            cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=300, check=False,
        )  # fmt: skip

    assert "rings" in tesla("init", "--help").stdout
    assert tesla("init", "ws", "--dataset", "rings").returncode == 0
    quick = ("--set", "evaluate.epochs=4", "--set", "evaluate.repeats=1", "--set", "compute.threads=1")
    refused = tesla("run", "ws", "--set", "distill.method=typical", *quick)
    assert refused.returncode == 2
    assert "the dataset rings of the package tesla-rings 0.1.0" in " ".join(refused.stderr.split())
    assert tesla("trust", "tesla_rings:find_rings").returncode == 0
    done = tesla("run", "ws", "--set", "distill.method=typical", *quick)
    assert done.returncode == 0, done.stderr
    assert "rings: 4 classes, 12x12 grey" in done.stdout + done.stderr
    assert "Test accuracy" in done.stdout
    export = ("export", "ws", "--run", "ipc-1", "--to", "out/")
    assert "trust tesla_rings:TYPICAL" in done.stdout and "trust tesla_rings:find_rings" not in done.stdout
    assert done.stdout.index("trust tesla_rings:TYPICAL") < done.stdout.index("export ws")
    assert tesla(*export).returncode == 2, "a name typed once is no consent from then on"
    assert tesla("trust", "tesla_rings:TYPICAL").returncode == 0
    again = tesla("run", "ws", "--run", "ipc-1")
    assert "is finished" in again.stdout and "trust" not in again.stdout
    exported = tesla(*export)
    assert exported.returncode == 0, exported.stderr

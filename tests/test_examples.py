"""The examples run and say what they promise."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import TINY

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_distil_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = example("distil_digits").main(tmp_path / "ws", *TINY)
    assert set(results) == {"distilled", "random"}
    assert "holdout" in capsys.readouterr().out


def test_gradient() -> None:
    compare = example("gradient").compare
    cosine, error = compare(1)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert error < 1e-5
    assert compare(20)[1] > 0.01

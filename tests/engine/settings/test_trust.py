"""No code of a stranger runs: not a module that a settings file names, not one in the current folder, not a picture."""

import os
import sys
from pathlib import Path

import pytest

from engine.data.decoding.pictures import open_header
from engine.errors import DataError, UsageError
from engine.networks import build_network
from engine.runs.workspace import Workspace
from engine.runtime.compiler_cache import CHOSEN, PYTORCH, use_cache
from engine.runtime.generators import run_to_end
from engine.runtime.subprocesses import run_isolated
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.settings.trust import CONFIG, FOR_NOW, check_trusted, trust
from tests.conftest import TINY

SHAPE = {"channels": 1, "classes": 10, "resolution": 8}
EVIL = """
from pathlib import Path
Path(__file__).with_name("RAN").touch()
from torch import nn
class Net(nn.Sequential):
    def __init__(self, channels, classes, resolution):
        super().__init__(nn.Flatten(), nn.Linear(channels * resolution**2, classes))
"""


@pytest.fixture(autouse=True)
def own_consents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG, str(tmp_path / "config"))
    monkeypatch.setenv(FOR_NOW, "")


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is a workspace that came with a module, and names it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "their_net.py").write_text(EVIL)
    (folder / "tesla.toml").write_text('[network]\nname = "their_net:Net"\n')
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "their_net", raising=False)
    return folder


def test_what_a_file_names_is_not_imported(stranger: Path) -> None:
    name = resolve_settings(stranger / "tesla.toml").settings.network.name
    with pytest.raises(UsageError, match=rf"code that tesla would run from {stranger}.*tesla trust their_net:Net"):
        build_network(name, **SHAPE)
    assert not (stranger / "RAN").exists()


def test_a_name_on_the_command_line_is_consent(stranger: Path) -> None:
    name = resolve_settings(overrides=["network.name=their_net:Net"]).settings.network.name
    build_network(name, **SHAPE)
    assert (stranger / "RAN").exists()


def test_consent_is_for_one_name_in_one_place(stranger: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert trust("their_net:Net") == (stranger / "their_net.py").resolve()
    monkeypatch.setenv(FOR_NOW, "")  # another process, later
    check_trusted("their_net:Net")
    with pytest.raises(UsageError, match="tesla trust their_net:Other"):
        check_trusted("their_net:Other")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "their_net.py").write_text(EVIL)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UsageError, match="elsewhere"):
        check_trusted("their_net:Net")


def test_finding_a_package_does_not_run_it(stranger: Path) -> None:
    (stranger / "pack").mkdir()
    (stranger / "pack" / "__init__.py").write_text(EVIL)
    with pytest.raises(UsageError, match="pack"):
        check_trusted("pack.inner:Net")
    assert not (stranger / "pack" / "RAN").exists()


@pytest.mark.parametrize("name", [":", ":x", "a b:c", "../x:y", "\x00:y", "x" * 300 + ":y", ".:y", "\x1b]0;x\x07:y"])
def test_names_that_are_no_modules(name: str) -> None:
    with pytest.raises(UsageError, match="There is no module"):
        build_network(name, **SHAPE)


def test_a_module_in_the_current_folder_does_not_stand_in_for_a_library(stranger: Path) -> None:
    for library in ("json", "torch", "random"):
        (stranger / f"{library}.py").write_text(EVIL)
    assert run_to_end(run_isolated("builtins:dict", {"a": 1}))["a"] == 1
    assert not (stranger / "RAN").exists()


def test_the_compiled_programs_of_a_stranger_are_not_loaded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions kept what they compiled in the workspace; such a folder is not even looked at."""
    monkeypatch.setenv(PYTORCH, "")  # so that it is restored
    monkeypatch.delenv(PYTORCH)
    (workspace.folder / ".compiled").mkdir()
    run_to_end(open_task(workspace, workspace.settings(overrides=TINY).settings))
    use_cache()
    assert Path(os.environ[PYTORCH]) == Path(os.environ[CHOSEN]).resolve()
    assert not Path(os.environ[PYTORCH]).is_relative_to(workspace.folder.resolve())


def test_a_picture_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    for name in ("a.eps", "a.png"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%touch RAN) (w) file\n%%EOF\n"
        )
        with pytest.raises(DataError, match="is not a readable image"):
            open_header(tmp_path / name)

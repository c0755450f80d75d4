"""Names that mean something else, here or on another system, are refused for what is new."""

import shutil

import pytest

from engine.errors import UsageError
from engine.runs.names import check_name
from engine.runs.workspace import Workspace
from tests.conftest import Drive

GOOD = ("ipc-1", "CONvnet", "com", "com10", "auxiliary", "lpt", "nul-1", "a.b", "undamaged", "a.importing-2", "x.tmp")
BAD = (
    "CON", "con", "con.txt", "PRN", "Aux", "NUL", "nul.tar.gz", "COM1", "com9", "LPT1.log", "a.", "a..", "damaged",
    "Damaged", "ipc-1.tmp-0123ab-12-0123ab", "b.importing", "", ".hidden", "a/b", "a\\b", "a b", "a\0", "x" * 65,
)  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names(workspace: Workspace, name: str) -> None:
    check_name(name, "run")
    assert workspace.run(name).name == name


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match="not a valid run name"):
        workspace.run(name)


def test_an_existing_run_of_such_a_name_opens(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run("fine")
    shutil.move(run.folder, run.folder.with_name("aux"))
    assert workspace.run("aux").exists
    assert "aux" in [run.name for run in workspace.runs()]

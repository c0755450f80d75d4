"""One workspace for all tests of devices: teachers of the same settings are trained once."""

import pytest

from engine.runs.workspace import Workspace
from engine.settings import resolve_settings


@pytest.fixture(scope="session")
def device_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for digits."""
    effective = resolve_settings(overrides=["dataset.name=digits"])
    return Workspace.create(tmp_path_factory.mktemp("device") / "ws", effective, {"dataset.name"})

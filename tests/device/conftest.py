"""One workspace for all tests of devices: teachers of the same settings are trained once."""

import pytest

from engine.runs.workspace import Workspace
from tests.runs import digits_workspace


@pytest.fixture(scope="session")
def device_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for digits."""
    return digits_workspace(tmp_path_factory.mktemp("device") / "ws")

"""A run that is stopped while it compiles leaves at once."""

import signal
from pathlib import Path

import pytest

from tests.forks import ForkedTesla
from tests.processes import HANGS, sets, wait_for

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("nothing_compiled")
def test_a_signal_while_compiling_is_not_kept_waiting(tmp_path: Path) -> None:
    folder = str(tmp_path / "ws")
    assert ForkedTesla("init", folder, "--dataset", "digits").wait() == 0
    log = tmp_path / "log"
    with open(log, "w") as output:
        process = ForkedTesla("run", folder, *sets("compute.compile=on"), stdout=output, stderr=output)
        wait_for(lambda: "compiling, " in log.read_text(), process)
        process.send_signal(signal.SIGTERM)
        code = process.wait(HANGS)  # a compiler that never ends is in test_signals.py
    assert code == 143, log.read_text()
    assert "Stopped" in log.read_text() and "terminate" not in log.read_text()

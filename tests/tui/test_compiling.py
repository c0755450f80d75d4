"""A run that is stopped while it compiles leaves at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY


@pytest.mark.usefixtures("nothing_compiled")
def test_a_signal_while_compiling_is_not_kept_waiting(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tesla_tui.main"]
    folder = str(tmp_path / "ws")
    subprocess.run([*command, "init", folder, "--dataset", "digits"], check=True, capture_output=True)
    options = [word for text in (*TINY, "compute.compile=on") for word in ("--set", text)]
    log = tmp_path / "log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [*command, "run", folder, *options], stdout=output, stderr=subprocess.STDOUT, env={**os.environ}
        )
        until = time.monotonic() + 240
        while "compiling, " not in log.read_text() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.1)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert "compiling, " in log.read_text()
    assert code == 143, log.read_text()
    assert time.monotonic() - asked < 15
    assert "Stopped" in log.read_text() and "terminate" not in log.read_text()

"""Python begins with this where its folder is on PYTHONPATH: the import of a module waits at a gate.

`TESLA_TEST_IMPORT` names the module, `TESLA_TEST_GATE` the gate (see tests/engine/faulty.py).
"""

import os
import sys
import time
from pathlib import Path


class GatedImport:
    """A finder that finds nothing, and takes its time for one name."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        gate = os.environ.get("TESLA_TEST_GATE")
        while name == os.environ.get("TESLA_TEST_IMPORT") and gate and Path(gate).exists():
            Path(gate).with_suffix(".waits").touch()
            time.sleep(0.02)


sys.meta_path.insert(0, GatedImport)  # type: ignore[arg-type]

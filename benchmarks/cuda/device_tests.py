"""The suite's tests of devices, `tests/device`, on the GPU."""

import subprocess
import sys
from pathlib import Path

from benchmarks.cuda.check import Check

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "device"
LONGEST = 60
"""Seconds of one test."""


def run(check: Check, part: str) -> None:
    """All of them. A failure is a row as soon as pytest reports it."""
    if check.tiny:
        check.rows.add("tests of devices", "the suite runs them on the CPU", "", "not run")
        return
    command = [sys.executable, "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", f"--timeout={LONGEST}"]
    command += ["-p", "no:benchmark", "-n", "4", "--dist", "worksteal", "--device", check.device.type, str(FOLDER)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as tests:
        assert tests.stdout is not None
        last = ""
        for line in tests.stdout:
            print(line, end="")
            last = line.strip() or last
            words = line.split()
            if "FAILED" in words or "ERROR" in words:
                # The summary at the end repeats it with its reason.
                name, _, reason = line.strip().rpartition(" - ") if " - " in line else (line.strip(), "", "")
                if reason:
                    check.rows.add(name.split()[-1], reason[:300], "passes", "fail")
    check.rows.holds("tests of devices", tests.returncode == 0, last.strip("= "), "all pass")

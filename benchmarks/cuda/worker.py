"""In the process of one part: `python -m benchmarks.cuda.worker GROUP PART ROWS DEVICE SECONDS`."""

import faulthandler
import importlib
import os
import sys
import threading
import time
import warnings
from pathlib import Path

from benchmarks.cuda.rows import Rows, error_words


def main(group: str, part: str, path: Path, device: str, seconds: float) -> int:
    """Run the part; its exit code. An error is a row."""
    # Even a process that hangs in a kernel or a compiler ends, with its stack in the log.
    faulthandler.dump_traceback_later(seconds, exit=True)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    rows = Rows(path, group, part)
    try:
        import torch

        from benchmarks.cuda.check import Check, switches

        warnings.simplefilter("ignore")
        if device == "cpu":
            torch.set_num_threads(1)
        switches()
        module = importlib.import_module(f"benchmarks.cuda.{group}")
        module.run(Check(rows, torch.device(device), tiny=device == "cpu"), part)
    except Exception as error:
        rows.add(part or group, error_words(error), "no error", "fail")
        raise
    return 0


def _end_with(parent: int) -> None:
    """Leave when the parent has: a killed benchmark leaves no process on the GPU."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
    sys.stdout.flush()
    os._exit(code)  # threads of a compiler must not keep it

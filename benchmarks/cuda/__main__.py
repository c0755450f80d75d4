"""The command line: see `python -m benchmarks.cuda --help`."""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from benchmarks.cuda.groups import GROUPS, NAMES
from benchmarks.cuda.markdown import write_page
from benchmarks.cuda.rows import read_rows
from benchmarks.cuda.runner import Runner

GB = 1e9
EACH = 4 * GB
"""Memory of the GPU for each of the processes that run together."""


def main() -> int:
    """Run the groups and write the page; 1 if something failed or was not finished."""
    options = _options()
    together = options.together
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print("This machine has no CUDA device, so there is nothing to check. (--device cpu rehearses the checks.)")
            return 0
        free = torch.cuda.get_device_properties(0).total_memory  # without a context: this process uses no memory
        together = together or max(1, min((os.cpu_count() or 1) - 2, int(free // EACH), 14))
    together = together or max(1, (os.cpu_count() or 1) - 1)
    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="tesla-cuda-", ignore_cleanup_errors=True) as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        rows = (options.rows or work / "rows.jsonl").resolve()
        rows.parent.mkdir(parents=True, exist_ok=True)
        rows.unlink(missing_ok=True)

        def changed(words: str) -> None:
            print(words, flush=True)
            write_page(options.out, read_rows(rows), options.device, time.monotonic() - began)

        runner = Runner(rows, work.resolve(), options.device, began + 60 * options.minutes, together, changed)
        stopped = False
        try:
            runner.run([group for group in GROUPS if group.name in options.only])
        except KeyboardInterrupt:
            stopped = True
        found = read_rows(rows)
        write_page(options.out, found, options.device, time.monotonic() - began)
    bad = [row for row in found if row.verdict in ("fail", "not finished")]
    for row in bad:
        print(f"{row.verdict}: {row.group} {row.part}: {row.what}: {row.measured}")
    print(f"{len(found)} rows, {len(bad)} failed or not finished: {options.out}")
    return 130 if stopped else 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda",
        description="Check tesla on one GPU and write what was found as Markdown. Without a GPU it does nothing.",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/cuda-results.md"), help="the page to write")
    parser.add_argument("--rows", type=Path, help="keep the rows as JSON lines in this file, too")
    parser.add_argument("--work", type=Path, help="keep logs and caches in this folder; default: a temporary one")
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit of everything (default 9)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="GROUP", help=", ".join(NAMES))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal at tiny sizes")
    parser.add_argument("--together", type=int, help="processes at once; default: what cores and memory allow")
    return parser.parse_args()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

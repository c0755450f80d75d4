"""What a process holds: the C heap in figures, and `tesla` with a thread that counts.

    python benchmarks/heap.py FOLDER TRACE tui my-run --watch

runs the rest of its words as a `tesla` command, and writes a line of FOLDER/looks.jsonl every ten seconds. When there
is a file FOLDER/end, it writes FOLDER/ended: how much memory the C library returns to the system when it is
asked to. With TRACE 1, also the lines of code whose memory grew most, which is slow. PyTorch is
not imported here: the live screens do not, either.
"""

import ctypes
import gc
import json
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

EVERY = 10.0
"""Seconds between two looks."""


class HeapFigures(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def heap_in_use() -> int:
    """Bytes that the C heap has given out and not got back; 0 where the C library does not say."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = HeapFigures
    figures = ask()
    return int(figures.uordblks + figures.hblkhd)


def trimmed() -> int:
    """Bytes of resident memory that the C library returns when it is asked to; 0 where it cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    before = psutil.Process().memory_info().rss
    if trim is None or not trim(0):
        return 0
    return int(before - psutil.Process().memory_info().rss)


def count(folder: Path) -> None:
    """Look at this process until there is a file `end`, then write what grew."""
    process, begun, due = psutil.Process(), time.monotonic(), EVERY
    traces: list[tracemalloc.Snapshot] = []
    while not (folder / "end").exists():
        time.sleep(0.2)
        if (passed := time.monotonic() - begun) < due:
            continue
        due += EVERY
        gc.collect()
        there = gc.get_objects()
        types = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in there)
        look = {
            "seconds": passed, "rss": process.memory_info().rss, "heap": heap_in_use(),
            "blocks": sys.getallocatedblocks(), "objects": len(there), "types": types,
        }  # fmt: skip
        del there, types  # into the file: what is kept here would be counted as growth
        with open(folder / "looks.jsonl", "a") as file:
            json.dump(look, file)
            file.write("\n")
        del look
        if tracemalloc.is_tracing():
            traces.append(tracemalloc.take_snapshot())
    end: dict[str, Any] = {"trimmed_mb": round(trimmed() / 1e6, 1)}
    if traces:
        compared = traces[-1].compare_to(traces[len(traces) // 2], "lineno")
        end["lines_grown"] = [str(line) for line in compared[:15]]
    (folder / "ending").write_text(json.dumps(end))
    (folder / "ending").rename(folder / "ended")


def main() -> int:
    """The command, with a thread that counts."""
    from tesla_tui.main import main as tesla

    folder, trace, *words = sys.argv[1:]
    if trace == "1":
        tracemalloc.start(1)
    threading.Thread(target=count, args=(Path(folder),), daemon=True).start()
    sys.argv = ["tesla", *words]
    return int(tesla())


if __name__ == "__main__":
    sys.exit(main())

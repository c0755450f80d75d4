"""Whether the live screens stay flat: the memory of an attached window while a run's journal and film grow.

    python benchmarks/live_memory.py [--minutes 3] [--rate 1000] [--before 0] [--trace]

A writer appends iterations to a journal (a thousand a second: a day of a fast run in a minute and a half) and a frame
every second; every ten seconds all tabs are opened once. Prints memory, events and processor time as JSON.

Resident memory alone does not tell what grows. The window therefore counts from inside, every ten seconds: blocks that
Python's allocator has given out, objects that the garbage collector knows, bytes that the C heap has given out
(mallinfo2), and resident memory; at the end, what of it the C library returns to the system when it is asked to
(malloc_trim). `growth` is the slope of a line through the second half. `types_grown` are the types of which there were
more objects at the end than in the middle, `lines_grown` (with --trace, which slows the window down) the lines of code
whose memory grew most.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from heap import EVERY
from live_cost import Terminal

from engine.events import CheckpointSaved, DataReady, IterationDone, Notice, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.preview_frames import Frame, frame_path, thin, write_frame
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings, settings_to_toml

FACTS = ("rss", "heap", "blocks", "objects")
INSIDE = str(Path(__file__).with_name("heap.py"))


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--before", type=int, default=0, help="iterations that the journal has before the window opens")
    parser.add_argument("--trace", action="store_true", help="trace Python's allocations, by line of code")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "ws")
        found = watched(run, Path(folder), options)
    print(json.dumps(found, indent=2))


def make_run(folder: Path) -> Run:
    """A run whose journal says that it has started."""
    effective = resolve_settings(overrides=["dataset.name=digits", "distill.iterations=100000000"])
    run = Workspace.create(folder, effective, {"dataset.name"}).run("long")
    run.folder.mkdir(parents=True)
    run.settings_file.write_text(settings_to_toml(effective))
    journal = JournalWriter(run.journal_file)
    journal.append(RunStarted(run="long", resumed_from=None, settings=effective.flat(), environment={}))
    journal.append(DataReady(name="digits", classes=10, channels=1, resolution=8, train=1, holdout=1, test=1))
    return run


class Writer:
    """Stands in for a driver.

    Args:
        run: that it writes for.
        rate: iterations between two frames.
    """

    def __init__(self, run: Run, rate: int) -> None:
        self._run, self._rate = run, rate
        self._journal = JournalWriter(run.journal_file)
        self._generator = np.random.default_rng(0)
        self.number = 0

    def reach(self, number: int) -> None:
        """Write everything up to an iteration."""
        while self.number < number:
            self.number += 1
            self._journal.append(
                IterationDone(
                    iteration=self.number, iterations=10**8, loss=float(self._generator.random()), student_lr=0.01,
                    gradient_norm=1.0, student_lr_gradient=0.0, trajectory=0, start_epoch=0, seconds=0.001,
                )
            )  # fmt: skip
            if self.number % 10 == 0:
                self._journal.append(Notice(level="info", message=f"at {self.number}"))
            if self.number % self._rate == 0:
                self._journal.append(CheckpointSaved(iteration=self.number, path=""))
                pixels = self._generator.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)
                write_frame(frame_path(self._run.film, self.number), Frame(self.number, pixels, 1, None), lasting=False)
                thin(self._run.film, ())


def watched(run: Run, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Watch a run that grows; what was measured."""
    writer = Writer(run, options.rate)
    writer.reach(options.before)
    words = ("tui", str(run.folder.parents[1]), "--run", run.name, "--watch")
    terminal = Terminal((sys.executable, INSIDE, str(folder), str(int(options.trace)), *words), 120, 40)
    process = psutil.Process(terminal.pid)
    # All the time: a window whose output is not read waits, and does not grow.
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    begun, rounds = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < 60 * options.minutes:
        # On a busy machine it may fall behind: then the tabs are still opened in time.
        writer.reach(min(options.before + int(passed * options.rate), writer.number + options.rate))
        time.sleep(0.2)
        if passed >= EVERY * (rounds + 1):
            rounds += 1
            for tab in (2, 3, 4, 5, 6, 1):
                os.write(terminal.descriptor, str(tab).encode())
                time.sleep(0.3)
    used = sum(process.cpu_times()[:2])
    (folder / "end").touch()
    until = time.monotonic() + 60
    while not (folder / "ended").exists() and time.monotonic() < until:
        time.sleep(0.2)
    terminal.end()
    samples = [json.loads(line) for line in (folder / "looks.jsonl").read_text().splitlines()]
    end = json.loads((folder / "ended").read_text())
    later = samples[len(samples) // 2 :]
    return {
        "events": writer.number,
        "seconds": round(passed),
        "rss_mb": [round(sample["rss"] / 1e6, 1) for sample in samples],
        "heap_mb": [round(sample["heap"] / 1e6, 1) for sample in samples],
        "blocks": [sample["blocks"] for sample in samples],
        "objects": [sample["objects"] for sample in samples],
        "growth_per_minute": {name: round(slope(later, name)) for name in FACTS},
        "processor_seconds": round(used, 1),
        "types_grown": dict((Counter(samples[-1]["types"]) - Counter(later[0]["types"])).most_common(12)),
        **end,
    }


def drain(terminal: Terminal) -> None:
    """Read what the window draws, until it ends."""
    while True:
        try:
            os.read(terminal.descriptor, 65536)
        except OSError:
            return


def slope(samples: list[dict[str, float]], name: str) -> float:
    """Growth a minute, least squares."""
    seconds = [sample["seconds"] for sample in samples]
    return float(np.polyfit(seconds, [sample[name] for sample in samples], 1)[0] * 60) if len(samples) > 1 else 0.0


if __name__ == "__main__":
    main()

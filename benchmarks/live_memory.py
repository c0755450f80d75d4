"""Whether the live screens stay flat: resident memory of an attached window while a run's journal and film grow.

    python benchmarks/live_memory.py [--minutes 3] [--rate 1000]

A writer appends iterations to a journal (a thousand a second: a day of a fast run in a minute and a half) and a frame
every second; every ten seconds all tabs are opened once. Prints memory, events and processor time as JSON.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from live_cost import COMMAND, Terminal

from engine.events import CheckpointSaved, DataReady, IterationDone, Notice, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.preview_frames import Frame, frame_path, thin, write_frame
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings, settings_to_toml


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    options = parser.parse_args()
    effective = resolve_settings(overrides=["dataset.name=digits", "distill.iterations=100000000"])
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "ws", effective, {"dataset.name"})
        run = workspace.run("long")
        run.folder.mkdir(parents=True)
        run.settings_file.write_text(settings_to_toml(effective))
        journal = JournalWriter(run.journal_file)
        journal.append(RunStarted(run="long", resumed_from=None, settings=effective.flat(), environment={}))
        journal.append(DataReady(name="digits", classes=10, channels=1, resolution=8, train=1, holdout=1, test=1))
        generator = np.random.default_rng(0)
        terminal = Terminal((*COMMAND, "tui", str(workspace.folder), "--run", "long", "--watch"), 120, 40)
        process = psutil.Process(terminal.pid)
        number, begun, samples, tab = 0, time.monotonic(), [], 0
        while (passed := time.monotonic() - begun) < 60 * options.minutes:
            while number < passed * options.rate:
                number += 1
                journal.append(
                    IterationDone(
                        iteration=number, iterations=10**8, loss=float(generator.random()), student_lr=0.01,
                        gradient_norm=1.0, student_lr_gradient=0.0, trajectory=0, start_epoch=0, seconds=0.001,
                    )
                )  # fmt: skip
                if number % 10 == 0:
                    journal.append(Notice(level="info", message=f"at {number}"))
                if number % options.rate == 0:
                    journal.append(CheckpointSaved(iteration=number, path=""))
                    pixels = generator.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)
                    write_frame(frame_path(run.film, number), Frame(number, pixels, 1, None), lasting=False)
                    thin(run.film, ())
            terminal.read(0.2)
            if passed >= 10 * (len(samples) + 1):
                samples.append(round(process.memory_info().rss / 1e6, 1))
                for tab in (2, 3, 4, 5, 6, 1):
                    os.write(terminal.descriptor, str(tab).encode())
                    terminal.read(0.3)
        used = sum(process.cpu_times()[:2])
        terminal.end()
    print(
        json.dumps({
            "events": number, "seconds": round(passed), "rss_mb_every_10_s": samples,
            "growth_second_half_mb": round(samples[-1] - samples[len(samples) // 2], 1),
            "processor_seconds": round(used, 1),
        }, indent=2)
    )  # fmt: skip


if __name__ == "__main__":
    main()

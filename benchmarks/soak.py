"""Whether a long run stays flat: memory, files, threads and what it leaves on disk over 20,000 iterations and more.

    python benchmarks/soak.py FOLDER [--iterations 20000] [--json]

Drives a tiny real problem (the embedded digits) through `engine.session.session.drive`, with checkpoints, evaluations
and the film. The run lives in FOLDER and resumes like any other: stop the script with Ctrl-C and run the same command
again. Samples are kept beside the run, so that the table covers all drives. Growth is the slope of a least-squares line
over the second half of every drive: what a process does while it warms up is not growth.

Resident memory has two parts. Pages of files (the libraries) come and go with what else the machine does. The rest is
this process's own, and what of it the C heap has given out is what the run really holds: a leak is seen there first.
"""

import argparse
import gc
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from heap import heap_in_use

from engine.events import CheckpointSaved, EvaluationDone, IterationDone, IterationSkipped
from engine.runs.journal import read_journal
from engine.runs.preview_frames import MOST_BYTES, MOST_FRAMES
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import resolve_settings

PROBLEM = (
    "network.width=4", "teachers.count=3", "teachers.epochs=4", "distill.max_start_epoch=2", "distill.teacher_epochs=1",
    "distill.steps=2", "distill.lr_images=10", "evaluate.epochs=8", "evaluate.repeats=2", "compute.compile=off",
    "compute.threads=1",
)  # fmt: skip
SAMPLES = 100
"""Samples of the process in a whole soak."""

TOLERATED = (
    ("memory of its own", "own", 4e6),
    ("heap in use", "heap", 3e6),
    ("file descriptors", "descriptors", 2.0),
    ("threads", "threads", 2.0),
    ("tensors alive", "tensors", 20.0),
)
"""Rise of the line over the second half of a drive that is noise: threads come and go, garbage waits."""


def main() -> int:
    """Soak, print a table or JSON; 1 if something grew that must not grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # A signal ends the loop where it is; closing the session saves.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if (options.folder / "tesla.toml").exists():
        workspace = Workspace(options.folder)
    else:
        workspace = Workspace.create(
            options.folder, resolve_settings(overrides=["dataset.name=digits"]), {"dataset.name"}
        )
    run, samples = workspace.run("soak"), options.folder / "samples.jsonl"
    try:
        soak(workspace, run, options.iterations, samples)
    except KeyboardInterrupt:
        print("Stopped and saved; the same command resumes.", file=sys.stderr)
    found = summary(run, samples)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 1 if found["grown"] else 0


def soak(workspace: Workspace, run: Run, iterations: int, samples: Path) -> None:
    """Drive the run to that many iterations, looking at this process on the way."""
    often = max(1, iterations // SAMPLES)
    overrides = (
        *PROBLEM, f"distill.iterations={iterations}", f"distill.checkpoint_every={often}",
        f"evaluate.every={10 * often}",
    )  # fmt: skip
    events = drive(workspace, run, workspace.settings(overrides=overrides, run=run))
    gc.freeze()  # what the libraries keep: to go through it at every look takes longer than the iterations between
    process, begun = psutil.Process(), time.time()
    try:
        for event in events:
            if isinstance(event, IterationDone | IterationSkipped) and event.iteration % often == 0:
                look = {"drive": begun, "seconds": time.time() - begun, **state_of(process, run, event.iteration)}
                with open(samples, "a") as file:
                    file.write(json.dumps(look) + "\n")
    finally:
        events.close()


def state_of(process: psutil.Process, run: Run, iteration: int) -> dict[str, float]:
    """What of a process and its run may grow."""
    gc.collect()
    # type(), not isinstance(): that would ask the class of every object, and some lazy ones import a module for it.
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    memory = process.memory_info()
    checkpoints, frames = (list((run.folder / name).iterdir()) for name in ("checkpoints", "previews"))
    return {
        "iteration": iteration,
        "rss": memory.rss,
        "own": memory.rss - getattr(memory, "shared", 0),
        "heap": heap_in_use(),
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "tensors": tensors,
        "journal": run.journal_file.stat().st_size,
        "checkpoints": len(checkpoints),
        "frames": len(frames),
        "film": sum(path.stat().st_size for path in frames),
    }


def summary(run: Run, samples: Path) -> dict[str, Any]:
    """The whole soak in figures, with the list of what grew."""
    looks = [json.loads(line) for line in samples.read_text().splitlines()]
    drives: dict[float, list[dict[str, float]]] = {}
    for look in looks:
        drives.setdefault(look["drive"], []).append(look)
    longest = max(drives.values(), key=len)
    settled = longest[len(longest) // 2 :]
    slopes = {name: slope(settled, name) for name in ("rss", *(key for _, key, _ in TOLERATED))}
    thousands = (settled[-1]["iteration"] - settled[0]["iteration"]) / 1000
    begun = time.monotonic()
    events = [entry.event for entry, _ in read_journal(run.journal_file)]
    reading = time.monotonic() - begun
    last, iterations = looks[-1], sum(isinstance(event, IterationDone | IterationSkipped) for event in events)
    keep = run.frozen().settings.distill.keep
    grown = [
        words
        for words, bad in (
            *((name, slopes[key] * thousands > most) for name, key, most in TOLERATED),
            ("checkpoints", max(look["checkpoints"] for look in looks) > 2 * (keep + 4)),
            ("frames of the film", max(look["frames"] for look in looks) > MOST_FRAMES + 1),
            ("bytes of the film", max(look["film"] for look in looks) > MOST_BYTES),
        )
        if bad
    ]
    return {
        "iterations": int(last["iteration"]),
        "drives": len(drives),
        "seconds": round(sum(looks[-1]["seconds"] for looks in drives.values()), 1),
        "checkpoints_saved": sum(isinstance(event, CheckpointSaved) for event in events),
        "evaluations": sum(isinstance(event, EvaluationDone) for event in events),
        "skipped": sum(isinstance(event, IterationSkipped) for event in events),
        "rss_mb": [round(look["rss"] / 1e6, 1) for look in (longest[0], settled[0], settled[-1])],
        "own_mb": [round(look["own"] / 1e6, 1) for look in (longest[0], settled[0], settled[-1])],
        "heap_mb": [round(look["heap"] / 1e6, 2) for look in (longest[0], settled[0], settled[-1])],
        "bytes_per_iteration": {name: round(slopes[name] / 1000, 1) for name in ("rss", "own", "heap")},
        "descriptors": [int(look["descriptors"]) for look in (longest[0], settled[-1])],
        "threads": [int(look["threads"]) for look in (longest[0], settled[-1])],
        "tensors_alive": [int(look["tensors"]) for look in (longest[0], settled[-1])],
        "journal_bytes": int(last["journal"]),
        "journal_bytes_per_iteration": round(last["journal"] / max(1, iterations), 1),
        "journal_seconds_to_read": round(reading, 2),
        "most_checkpoint_files": int(max(look["checkpoints"] for look in looks)),
        "most_frames": int(max(look["frames"] for look in looks)),
        "most_film_bytes": int(max(look["film"] for look in looks)),
        "grown": grown,
    }


def slope(looks: list[dict[str, float]], name: str) -> float:
    """Growth per 1000 iterations, least squares."""
    if len(looks) < 2:
        return 0.0
    x = np.array([look["iteration"] for look in looks])
    return float(np.polyfit(x, [look[name] for look in looks], 1)[0] * 1000)


def table(found: dict[str, Any]) -> str:
    """For people."""
    width = max(map(len, found))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in found.items())


if __name__ == "__main__":
    sys.exit(main())

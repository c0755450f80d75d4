"""A recorded run, shown as one with many classes: other names, and pictures of as many colours."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.runs.preview_frames import Frame, Pixels, frame_iterations, frame_path, write_frame
from engine.runs.workspace import Workspace

RECORDED = Path(__file__).parents[2] / "data" / "recorded"

WORDS = (
    "Chihuahua",
    "東京タワーの夜景と花火",
    "🍎 apple",
    "sulphur-crested cockatoo, Kakatoe",
    "한국어",
    "ox",
)


def class_names(count: int) -> list[str]:
    """Long ones, with CJK and emoji, that differ only at their end."""
    return [f"n{2085620 + k:08d} {WORDS[k % len(WORDS)]} {k}" for k in range(count)]


def pictures(count: int, native: int) -> Pixels:
    """`(count, native, native, 3)`: every picture has its own colours, and no two pixels side by side are equal."""
    k = np.arange(count)[:, None, None]
    y, x = np.mgrid[:native, :native]
    red, green, blue = k * 7 + 0 * x, x * 255 // max(native - 1, 1) + 0 * k, (x + y) % 2 * 200 + 0 * k
    return np.stack([red % 256, green, blue], axis=-1).astype(np.uint8)


def many_classes(folder: Path, names: Sequence[str], native: int = 16) -> Workspace:
    """A workspace with the recorded run `learned`, of so many classes."""
    workspace = Workspace(Path(shutil.copytree(RECORDED, folder)))
    run = workspace.run("learned")
    lines = [json.loads(line) for line in run.journal_file.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "DataReady":
            line.update(names=list(names), classes=len(names), resolution=native, channels=3)
    run.journal_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for iteration in frame_iterations(run.film):
        top = [[(k, 0.7), ((k + 1) % len(names), 0.2), ((k + 3) % len(names), 0.1)] for k in range(len(names))]
        frame = Frame(iteration, pictures(len(names), native), 1, top)
        frame_path(run.film, iteration).unlink()
        if iteration % 20 == 0:
            write_frame(frame_path(run.film, iteration), frame, lasting=False)
    return workspace

"""Images of a run for its report: frames of the film as data URIs, and soft labels as a map of classes."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.runs.preview_frames import Frame
from tesla_tui.render.words import one_line
from tesla_tui.report.facts import Facts
from tesla_tui.watch.previews import Film

MOMENTS = 6
"""Iterations shown in the time strip."""
ACROSS = 10
"""Images in a row of the film, and of a class."""
MOST_CLASSES = 200
"""Classes whose images are in the page; the rest is in an export."""
MOST_MAPPED = 100
"""Classes in the map of soft labels."""
VISIBLE = 0.01
"""Mean probability below which a cell of the map is left empty."""


@dataclass(frozen=True)
class Strip:
    """Images side by side in one picture."""

    title: str
    note: str
    uri: str
    count: int
    """Images in it."""


@dataclass(frozen=True)
class Cell:
    """A field of the map of soft labels."""

    row: int
    column: int
    value: float
    words: str


@dataclass(frozen=True)
class Pictures:
    """Everything there is to see."""

    moments: list[Strip]
    """First images of the first classes, iteration by iteration."""
    moment_classes: list[str]
    final: list[Strip]
    """The images of each class."""
    iteration: int | None
    """Of the final ones."""
    shown: int
    """Images of each class shown."""
    left_out: int
    """Classes that are not shown."""
    cells: list[Cell]
    mapped: list[str]
    """Classes of the map; empty while labels are hard."""
    mapped_iteration: int


def pictures(facts: Facts) -> Pictures:
    """Cut the film. A damaged or missing frame is left out."""
    film = Film(facts.run, again=False)
    film.look()
    names = [one_line(str(name)) for name in facts.view.names]
    moments, classes = _moments(film, names)
    # Of an unfinished run the newest images are what one wants to see; of a finished one those that were measured.
    settled = facts.state in ("finished", "imported") and facts.selected is not None
    frame = film.frame(facts.selected) if settled and facts.selected in film.iterations else None
    frame = frame or film.latest()
    if frame is None:
        return Pictures(moments, classes, [], None, 0, 0, [], [], 0)
    count = len(frame.pixels) // frame.shown
    names = _named(names, count)
    shown = min(frame.shown, ACROSS)
    final = [
        Strip(names[k], _labels(frame, k, names), _uri(frame.pixels[k * frame.shown :][:shown]), shown)
        for k in range(min(count, MOST_CLASSES))
    ]
    labelled = frame if frame.top is not None else film.latest() or frame  # the first images have no soft labels yet
    cells, mapped = _map(labelled, names[:MOST_MAPPED])
    return Pictures(
        moments, classes, final, frame.iteration, shown, max(0, count - MOST_CLASSES), cells, mapped, labelled.iteration
    )


def _named(names: list[str], count: int) -> list[str]:
    """Class names; journals of old versions have none."""
    return names if len(names) == count else [str(k) for k in range(count)]


def _moments(film: Film, names: list[str]) -> tuple[list[Strip], list[str]]:
    there = film.iterations
    places = sorted({round(i * (len(there) - 1) / (MOMENTS - 1)) for i in range(MOMENTS)}) if there else []
    strips, classes = [], []
    for place in places:
        frame = film.frame(there[place])
        if frame is None:
            continue
        count = len(frame.pixels) // frame.shown
        # One image of each of the first classes; where there are few classes, more of each.
        each = max(1, min(frame.shown, ACROSS // count))
        chosen = [k * frame.shown + i for k in range(min(count, ACROSS // each)) for i in range(each)]
        strips.append(Strip(f"{frame.iteration:,}", "", _uri(frame.pixels[chosen]), len(chosen)))
        classes = [_named(names, count)[i // frame.shown] for i in chosen]
    return (strips, classes) if len(strips) > 1 else ([], [])


def _labels(frame: Frame, k: int, names: list[str]) -> str:
    """The leading soft labels of a class's first image."""
    if frame.top is None or k * frame.shown >= len(frame.top):
        return ""
    leading = frame.top[k * frame.shown][:3]
    return ", ".join(f"{names[c]} {100 * p:.0f} %" for c, p in leading if c < len(names) and p >= VISIBLE)


def _map(frame: Frame, names: list[str]) -> tuple[list[Cell], list[str]]:
    """Mean label of the images of every class; each image remembers its five leading classes."""
    if frame.top is None:
        return [], []
    total: npt.NDArray[np.float64] = np.zeros((len(names), len(names)))
    for number, labels in enumerate(frame.top):
        row = number // frame.shown
        for column, value in labels:
            if row < len(names) and column < len(names):
                total[row, column] += value / frame.shown
    cells = [
        Cell(int(i), int(j), round(float(total[i, j]), 3), f"{names[i]}: {names[j]} {100 * total[i, j]:.1f} %")
        for i, j in zip(*np.nonzero(total >= VISIBLE), strict=True)
    ]
    return cells, names


def _uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Images `(N, H, W, C)` side by side as a PNG; what is between them is transparent."""
    count, side, _, channels = pixels.shape
    gap = max(1, side // 10)
    strip = np.zeros((side, count * (side + gap) - gap, channels + 1), dtype=np.uint8)
    for number, image in enumerate(pixels):
        left = number * (side + gap)
        strip[:, left : left + side, :channels] = image
        strip[:, left : left + side, channels] = 255
    file = io.BytesIO()
    Image.fromarray(strip, "LA" if channels == 1 else "RGBA").save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

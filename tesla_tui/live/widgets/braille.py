"""Lines drawn in braille dots, two by four to a character."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style

from tesla_tui.watch.series import Array

WEIGHTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each dot in a braille character, by row and column."""

Dots = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Line:
    """A curve or, where `low` and `high` differ, a band. Later lines are drawn over earlier ones."""

    x: Array
    """Ascending."""
    low: Array
    """Values that are not finite leave a gap."""
    high: Array
    colour: str
    """A variable of the theme without its `$`, or a colour."""
    dashed: bool = False
    """A level to compare with, not a measurement."""
    points: bool = False
    """Mark every point."""
    name: str = ""
    """What its values are called when they are read off."""

    @staticmethod
    def through(x: Array, y: Array, colour: str, *, points: bool = False, name: str = "") -> "Line":
        """A curve."""
        return Line(x, y, y, colour, points=points, name=name)

    @staticmethod
    def level(y: float, left: float, right: float, colour: str) -> "Line":
        """A dashed horizontal line."""
        return Line(np.array([left, right]), np.array([y, y]), np.array([y, y]), colour, dashed=True)

    @property
    def finite(self) -> Dots:
        """Which points have a value."""
        return np.isfinite(self.low) & np.isfinite(self.high)

    def logarithmic(self) -> "Line":
        """With log10 of its values; a gap where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            low = np.log10(np.where(self.low > 0, self.low, np.nan))
            high = low if self.low is self.high else np.log10(np.where(self.high > 0, self.high, np.nan))
        return replace(self, low=low, high=high)

    def part(self, start: int, end: int) -> "Line":
        """Points `start` to `end` (excluded)."""
        low = self.low[start:end]
        return replace(self, x=self.x[start:end], low=low, high=low if self.low is self.high else self.high[start:end])


def braille_rows(
    lines: Sequence[Line],
    styles: Sequence[Style],
    base: Style,
    size: tuple[int, int],
    xs: tuple[float, float],
    ys: tuple[float, float],
) -> list[list[Segment]]:
    """The lines as rows of characters, top row first.

    Args:
        lines: at least one.
        styles: one for each line.
        base: style of the ground.
        size: rows and columns, in characters.
        xs: value at the left and at the right edge.
        ys: value at the bottom and at the top edge.
    """
    rows, columns = size
    layer = np.full((rows, columns), -1)
    bits = np.zeros((rows, columns), dtype=int)
    for number, line in enumerate(lines):
        dots = raster(line, columns * 2, rows * 4, xs, ys)
        cells = dots.reshape(rows, 4, columns, 2)
        here = cells.any(axis=(1, 3))  # a character has one colour: the later line has it to itself
        bits = np.where(here, np.einsum("hawb,ab->hw", cells, WEIGHTS), bits)
        layer[here] = number
    return [_segments(bits[row], layer[row], styles, base) for row in range(rows)]


def raster(line: Line, width: int, height: int, xs: tuple[float, float], ys: tuple[float, float]) -> Dots:
    """The dots `(height, width)` of what is seen of a line, top row first."""
    dots = np.zeros((height, width), dtype=bool)
    if line.dashed and not ys[0] <= line.low[0] <= ys[1]:
        return dots  # a level is not pushed to the edge
    for piece in _pieces(line, xs):
        _draw(dots, piece, xs, ys)
    if line.dashed:
        dots[:, np.arange(width) % 4 >= 2] = False
    return dots


def _pieces(line: Line, xs: tuple[float, float]) -> Iterator[Line]:
    """The parts without gaps of what is between two x, up to the points next to it."""
    start = max(0, int(np.searchsorted(line.x, xs[0], "left")) - 1)
    seen = line.part(start, int(np.searchsorted(line.x, xs[1], "right")) + 1)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], seen.finite, [False])).astype(np.int8)))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield seen.part(first, end)


def _draw(dots: Dots, line: Line, xs: tuple[float, float], ys: tuple[float, float]) -> None:
    """Set the dots of a line without gaps."""
    height, width = dots.shape
    span = xs[1] - xs[0]
    scale = (width - 1) / span if span > 0 else 0.0
    at = (line.x - xs[0]) * scale

    def row(y: Array) -> Array:
        place: Array = np.clip((ys[1] - y) / (ys[1] - ys[0]) * height - 0.5, 0, height - 1)
        return place

    first, last = max(0, math.floor(at[0])), min(width - 1, math.ceil(at[-1]))
    grid = np.arange(first, last + 1)
    if not len(grid):
        return
    band = line.low is not line.high
    if band and len(line.x) > 2 * len(grid):  # several points a dot: their extremes
        bins = np.clip(np.rint(at).astype(int), first, last)
        edges = np.flatnonzero(np.diff(bins, prepend=-1))
        columns = bins[edges].astype(float)
        high = np.interp(grid, columns, np.maximum.reduceat(line.high, edges))
        low = np.interp(grid, columns, np.minimum.reduceat(line.low, edges))
    else:
        high, low = np.interp(grid, at, line.high), np.interp(grid, at, line.low)
    top, bottom = row(high), row(low)
    # Join neighbours: every dot column also reaches halfway to the one before it and the one after it.
    middle = (top + bottom) / 2
    before, after = np.concatenate((middle[:1], middle[:-1])), np.concatenate((middle[1:], middle[-1:]))
    top = np.minimum(top, np.minimum((middle + before) / 2, (middle + after) / 2))
    bottom = np.maximum(bottom, np.maximum((middle + before) / 2, (middle + after) / 2))
    rows = np.arange(height)[:, None]
    dots[:, grid] |= (rows >= np.rint(top)) & (rows <= np.rint(bottom))
    if line.points or len(line.x) == 1:  # a point between two gaps is one dot, which is hardly seen
        for x, y in zip(np.rint(at).astype(int), np.rint(row((line.low + line.high) / 2)).astype(int), strict=True):
            if 0 <= x < width:
                dots[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True


def _segments(
    bits: npt.NDArray[np.int_], layer: npt.NDArray[np.int_], styles: Sequence[Style], base: Style
) -> list[Segment]:
    """A row's characters, neighbours of one colour in one segment."""
    edges = np.flatnonzero(np.diff(layer, prepend=layer[0] - 1)).tolist()
    text = "".join(chr(0x2800 + bit) if bit else " " for bit in bits.tolist())
    segments = []
    for start, end in zip(edges, [*edges[1:], len(text)], strict=True):
        number = int(layer[start])
        segments.append(Segment(text[start:end], base if number < 0 else styles[number]))
    return segments

"""The inside of a chart: where values are on it, what is read off at the cursor, and what is drawn over the curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.scales import reading
from tesla_tui.render.cells import padded
from tesla_tui.watch.selected import SIGN
from tesla_tui.watch.series import Array

LONGEST = 28
"""Columns of a name in the box of what was read off."""


@dataclass(frozen=True)
class Frame:
    """Which values the edges of the curves' area stand for."""

    columns: int
    rows: int
    xs: tuple[float, float]
    ys: tuple[float, float]
    """As drawn: log10 of the values on a logarithmic scale."""

    def column(self, x: float) -> int:
        """The column of characters of a place; it may be outside."""
        span = self.xs[1] - self.xs[0]
        return int(np.rint((x - self.xs[0]) / span * (2 * self.columns - 1))) // 2

    def row(self, y: float) -> int:
        """The row of characters of a value as drawn."""
        height = 4 * self.rows
        dot = (self.ys[1] - y) / (self.ys[1] - self.ys[0]) * height - 0.5
        return int(np.rint(np.clip(dot, 0, height - 1))) // 4

    def place(self, column: int) -> float:
        """The place in the middle of a column."""
        return self.xs[0] + (self.xs[1] - self.xs[0]) * (2 * column + 0.5) / max(1, 2 * self.columns - 1)


@dataclass(frozen=True)
class Reading:
    """What a curve says at a place."""

    colour: str
    name: str
    value: float
    text: str


def places(lines: Sequence[Line]) -> Array:
    """Where the curves have values, ascending."""
    found = [line.x[line.finite] for line in lines if not line.dashed]
    return np.unique(np.concatenate(found)) if found else np.zeros(0)


def y_range(
    lines: Sequence[Line], xs: tuple[float, float], *, whole: bool, logarithmic: bool, percent: bool
) -> tuple[float, float]:
    """The lowest and the highest value between two x, and a little room; `whole`: of the levels too."""
    lows, highs = [], []
    for line in lines:
        seen = line.finite & (whole | ((line.x >= xs[0]) & (line.x <= xs[1])))
        if seen.any() and (whole or not line.dashed):
            lows.append(line.low[seen].min())
            highs.append(line.high[seen].max())
    if not lows:  # all points are beyond the edges
        return y_range(lines, xs, whole=True, logarithmic=logarithmic, percent=percent)
    low, high = float(min(lows)), float(max(highs))
    span = high - low
    if span <= 1e-12 * abs(high):  # constant, but for rounding
        span = 0.0
    least = 0.1 if logarithmic else 0.05 * abs(high) or (0.01 if percent else 1.0)
    room = 0.05 * span or least
    begin, end = low - room, high + room
    if not logarithmic and low >= 0:  # no scale below zero for what cannot be
        begin = max(begin, 0.0)
    if percent and high <= 1:
        end = min(end, 1.0)
    return begin, end


def readings(lines: Sequence[Line], x: float, span: float, *, percent: bool) -> list[Reading]:
    """What the curves say at a place: the point there, else the last one before it, which is then named.

    Args:
        lines: with their values, not log10 of them.
        x: the place.
        span: what the y scale spans, which says how many digits matter.
        percent: values are shares of 1.
    """
    found = []
    for line in lines:
        there = np.flatnonzero(line.finite & (line.x <= x))
        if line.dashed or not len(there):
            continue
        last = int(there[-1])
        low, high = float(line.low[last]), float(line.high[last])
        text = reading(low, span, percent=percent)
        if low != high:
            text += f" to {reading(high, span, percent=percent)}"
        if line.x[last] != x and not np.isclose(line.x[last], x):
            text += f" ({line.x[last]:.0f})"
        found.append(Reading(line.colour, line.name, (low + high) / 2, text))
    return found


def with_mark(rows: list[Strip], frame: Frame, line: Line, x: float, style: Style) -> None:
    """Mark a curve at a place, if that is seen."""
    x_known, y_known = line.x[line.finite], (line.low + line.high)[line.finite] / 2
    if frame.xs[0] <= x <= frame.xs[1] and len(x_known) and x_known[0] <= x <= x_known[-1]:
        row = frame.row(float(np.interp(x, x_known, y_known)))
        rows[row] = _over(rows[row], frame.column(x), Strip([Segment(SIGN, style)]))


def with_range(rows: list[Strip], frame: Frame, selected: tuple[float, float], ground: Style) -> None:
    """Another ground behind a range."""
    first, last = (min(max(frame.column(x), 0), frame.columns - 1) for x in selected)
    for number, row in enumerate(rows):
        rows[number] = _over(row, first, _on(row.crop(first, last + 1), ground))


def with_cursor(rows: list[Strip], frame: Frame, x: float, style: Style, ground: Style) -> None:
    """A vertical line where values are read off."""
    column = frame.column(x)
    if not 0 <= column < frame.columns:
        return
    for number, row in enumerate(rows):
        here = row.crop(column, column + 1)
        line = Strip([Segment("│", style)]) if here.text == " " else _on(here, ground)
        rows[number] = _over(row, column, line)


def with_box(rows: list[Strip], frame: Frame, x: float, found: Sequence[Reading], styles: Sequence[Style]) -> None:
    """The readings, that of the last curve and then the highest ones first, on the side where the cursor is not.

    Args:
        rows: of the curves' area; changed.
        frame: where values are on it.
        x: the cursor.
        found: what was read off there.
        styles: the box's own, then one a reading.
    """
    pairs = list(zip(found, styles[1:], strict=True))
    pairs.sort(key=lambda pair: (pair[0] is not found[-1], -pair[0].value))
    texts = max((cell_len(one.text) for one in found), default=0)
    room = max(8, frame.columns * 3 // 5 - texts - 5)
    names = min(max((cell_len(one.name) for one in found), default=0), LONGEST, room)
    width = names + texts + 5
    if width > frame.columns - 2:
        return
    start = 1 if frame.column(x) > frame.columns // 2 else frame.columns - width - 1
    most = len(rows) if len(pairs) <= len(rows) else len(rows) - 1
    box = styles[0]
    for number, (one, style) in enumerate(pairs[:most]):
        words = f" {padded(one.name, names)} {one.text:>{texts}} "
        line = Strip([Segment(" ━", style), Segment(words, box)])
        rows[number] = _over(rows[number], start, line)
    if most < len(pairs):
        words = padded(f" {len(pairs) - most} more", width)
        rows[most] = _over(rows[most], start, Strip([Segment(words, box)]))


def _over(row: Strip, column: int, part: Strip) -> Strip:
    return Strip.join([row.crop(0, column), part, row.crop(column + part.cell_length)])


def _on(part: Strip, ground: Style) -> Strip:
    """On another ground."""
    return Strip(Segment.apply_style(part, post_style=ground))

"""A line chart in braille dots, two by four to a character, with its scales in one row and one column.

Why not a library's: it has to be redrawn twice a second beside an engine that wants every core. textual-plot took 6 ms
of processor time for one small chart and draws a frame; this takes under 1 ms, and gives the room to the curve.
"""

import math
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tesla_tui.live.widgets.braille import Line, braille_rows

SCALE = 7
"""Columns of the y scale."""


class Chart(Widget, can_focus=True):
    """A titled chart. Call `show` with new lines."""

    DEFAULT_CSS = """
    Chart { height: 1fr; width: 1fr; padding: 0 1 0 0; }
    Chart:focus { background: $surface; }
    """

    def __init__(self, title: str, *, unit: str = "iteration", empty: str = "", id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._title = title
        self._empty = empty
        self._unit = unit
        self._lines: Sequence[Line] = ()
        self._value = ""
        self._notes: Sequence[str] = ()
        self._logarithmic = False
        self._percent = False
        self._rows: list[Strip] = []
        self._drawn: tuple[object, ...] = ()
        self._hover: int | None = None
        self._growing = False
        self._held: tuple[float, float] | None = None
        """The y scale of a growing curve, kept as long as it fits."""

    def show(
        self,
        lines: Sequence[Line],
        *,
        value: str = "",
        notes: Sequence[str] = (),
        logarithmic: bool = False,
        percent: bool = False,
        growing: bool = False,
    ) -> None:
        """Draw these. `value` stands at the right of the title, `notes` beside it.

        While a curve is `growing` its scales move in steps, so that it does not tremble, and only rows that changed are
        painted.
        """
        if logarithmic != self._logarithmic:
            self._held = None
        self._lines = [line for line in lines if len(line.x)]
        self._value, self._notes, self._logarithmic, self._percent = value, notes, logarithmic, percent
        self._growing = growing
        old, key = self._rows, self._key()
        if not growing or self._drawn != key or len(old) != self.size.height:
            self._drawn = ()
            self.refresh()
            return
        self._rows = self._draw(self.size)
        width = self.size.width
        changed = [Region(0, y, width, 1) for y, row in enumerate(self._rows) if row != old[y]]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """One row, from the picture that is drawn once per change."""
        key = self._key()
        if key != self._drawn:
            self._rows = self._draw(self.size)
            self._drawn = key
        return self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width, self.rich_style)

    def _key(self) -> tuple[object, ...]:
        return (self.size, self.app.theme, self._hover, self.has_focus)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Read the curve off under the mouse."""
        self._hover = event.x
        self.refresh()

    def on_leave(self, event: events.Leave) -> None:
        """Back to the newest value."""
        self._hover = None
        self.refresh()

    def _colour(self, name: str) -> Style:
        return Style(color=self.app.theme_variables.get(name, name if name.startswith("#") else None))

    def _draw(self, size: Size) -> list[Strip]:
        base = self.rich_style
        width, height = size.width, size.height
        quiet = base + self._colour("quiet")
        lines = self._visible()
        if height < 4 or width < SCALE + 8 or not lines:
            words = self._empty if not lines else ""
            rows = [self._heading(width, base, quiet, None)]
            for _ in range(height - 1):
                rows.append(Strip.blank(width, base))
            if words and height > 2:
                rows[height // 2] = _fit([Segment(words[:width].center(width), quiet)], width, base)
            return rows
        columns, rows_of_plot = width - SCALE - 1, height - 2
        x0 = min(float(line.x[0]) for line in lines)
        x1 = max(float(line.x[-1]) for line in lines)
        if self._growing:
            x1 = _stepped(x0, x1)
        low, high = self._range(lines)
        styles = [base + self._colour(line.colour) for line in lines]
        at = None
        if self._hover is not None and SCALE < self._hover <= SCALE + columns and x1 > x0:
            at = x0 + (x1 - x0) * (self._hover - SCALE - 0.5) / columns
        rows = [self._heading(width, base, quiet, at)]
        labels = self._labels(low, high, rows_of_plot)
        axis = base + self._colour("chart-axis")
        plot = braille_rows(lines, styles, base, (rows_of_plot, columns), (x0, x1), (low, high))
        for row, curve in enumerate(plot):
            label = labels.get(row, "")
            segments = [Segment(label.rjust(SCALE - 1)[: SCALE - 1], quiet), Segment("┤" if label else "│", axis)]
            rows.append(_fit([*segments, *curve], width, base))
        rows.append(_fit([Segment(self._bottom(x0, x1, columns), quiet)], width, base))
        return rows

    def _visible(self) -> list[Line]:
        if not self._logarithmic:
            return list(self._lines)
        found = []
        for line in self._lines:
            positive = line.low > 0
            if positive.any():
                x, low, high = line.x[positive], np.log10(line.low[positive]), np.log10(line.high[positive])
                found.append(Line(x, low, high, line.colour, line.dashed, line.points))
        return found

    def _range(self, lines: Sequence[Line]) -> tuple[float, float]:
        low = min(float(line.low.min()) for line in lines)
        high = max(float(line.high.max()) for line in lines)
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1e-9
        held = self._held if self._growing else None
        if held is None or low < held[0] or high > held[1] or high - low < 0.6 * (held[1] - held[0]):
            held = self._held = (low - room, high + room)
        return held

    def _heading(self, width: int, base: Style, quiet: Style, at: float | None) -> Strip:
        value = self._value
        if at is not None and self._lines:
            line = self._lines[-1] if not self._lines[-1].dashed else self._lines[0]
            y = float(np.interp(at, line.x, (line.low + line.high) / 2))
            value = f"{self._unit} {at:.0f}: {f'{100 * y:.1f} %' if self._percent else f'{y:.4g}'}"
        title = base + Style(bold=True)
        segments = [Segment(self._title, title)]
        free = width - len(self._title) - len(value) - 2
        for note in self._notes:  # as many as there is room for
            if note and len(note) + 2 <= free:
                segments.append(Segment(f"  {note}", quiet))
                free -= len(note) + 2
        used = sum(len(segment.text) for segment in segments)
        if value and width >= used + len(value) + 1:
            segments += [Segment(" " * (width - used - len(value)), base), Segment(value, base)]
        return _fit(segments, width, base)

    def _labels(self, low: float, high: float, rows: int) -> dict[int, str]:
        """Scale of y by row: round numbers, at most one in two rows."""
        ticks = _ticks(low, high, max(2, rows // 3))
        step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
        found = {}
        for tick in ticks:
            row = round((high - tick) / (high - low) * rows - 0.5)
            if 0 <= row < rows:
                shown = 10**tick if self._logarithmic else tick
                found[row] = f"{100 * tick:.0f} %" if self._percent else _short(shown, 0 if self._logarithmic else step)
        return found

    def _bottom(self, x0: float, x1: float, columns: int) -> str:
        left, right = f"{x0:.0f}", f"{x1:.0f}"
        middle = f"{(x0 + x1) / 2:.0f}" if columns > 30 else ""
        line = list(" " * (SCALE + columns))
        for text, start in ((left, SCALE), (middle, SCALE + columns // 2 - len(middle) // 2), (right, -len(right))):
            begin = start if start >= 0 else len(line) + start
            line[begin : begin + len(text)] = text
        if columns > 50:
            unit = f" {self._unit}"
            line[SCALE + len(left) : SCALE + len(left) + len(unit)] = unit
        return "".join(line)


def _stepped(first: float, last: float) -> float:
    """A round end of the x scale, at most a tenth beyond the last point."""
    span = last - first
    if span < 20:
        return last
    power = 10.0 ** math.floor(math.log10(span / 10))
    step = max(m * power for m in (1, 2, 5) if m * power <= span / 10)
    return math.ceil(last / step) * step


def _ticks(low: float, high: float, most: int) -> list[float]:
    span = high - low
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step) * step
    return [first + i * step for i in range(int((high - first) / step) + 1)]


def _short(value: float, step: float) -> str:
    """A number in at most six characters, with the digits that tell it from its neighbour."""
    if value == 0 or (step and abs(value) < step / 1000):
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        digits = max(0, -math.floor(math.log10(step))) if step else max(0, 1 - math.floor(math.log10(abs(value))))
        text = f"{value:.{min(digits, 5)}f}"
        if len(text) <= SCALE - 1:
            return text
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _fit(segments: list[Segment], width: int, base: Style) -> Strip:
    return Strip(segments).adjust_cell_length(width, base)

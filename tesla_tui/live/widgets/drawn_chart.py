"""A chart as it is drawn: title and readings in one row, curves with a scale of y at the left and one of x below.

Why not a library's: it is redrawn twice a second beside an engine that wants every core. textual-plot 0.10 takes five
times the processor time for one curve, has no logarithmic scale, reads no values and joins the points around a gap;
Textual's Sparkline has no scales and takes one curve.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tesla_tui.live.widgets.braille import Line, braille_rows
from tesla_tui.live.widgets.plot import (
    Frame,
    Reading,
    places,
    readings,
    with_box,
    with_cursor,
    with_mark,
    with_range,
    y_range,
)  # fmt: skip
from tesla_tui.live.widgets.scales import WIDEST, rounded_end, x_labels, y_labels
from tesla_tui.live.widgets.view import View

SCALE = 7
"""Columns of the y scale, if no number needs more."""
BOTH = 2
"""Readings of one curve: a value and the trend."""
NOTHING_POSITIVE = "no values above 0 for a logarithmic scale: l"


@dataclass(frozen=True, eq=False)
class Content:
    """What a chart shows; see `DrawnChart.show`."""

    lines: Sequence[Line] = ()
    value: str = ""
    notes: Sequence[str] = ()
    logarithmic: bool = False
    percent: bool = False
    growing: bool = False
    meanwhile: str = ""
    mark: float | None = None


class DrawnChart(Widget):
    """Draws lines in the part of x, and with the cursor, that its view says."""

    DEFAULT_CSS = "DrawnChart { height: 1fr; width: 1fr; padding: 0 1 0 0; }"

    def __init__(self, title: str, *, unit: str = "iteration", empty: str = "", id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.title = title
        self.unit = unit
        """What x counts."""
        self.view = View()
        self.xs = places(())
        """Where there are values, ascending."""
        self._empty = empty
        self._content = Content()
        self._rows: list[Strip] = []
        self._drawn: tuple[object, ...] = ()
        self._hover: float | None = None
        """The place under the mouse, read off in place of the cursor."""
        self._scale = SCALE
        self._frame: Frame | None = None
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
        meanwhile: str = "",
        mark: float | None = None,
        empty: str = "",
    ) -> None:
        """Draw these.

        While a curve is `growing` its scales move in steps, so that it does not tremble, and only rows that changed are
        painted.

        Args:
            lines: later ones over earlier ones.
            value: stands at the right of the title until something is read off.
            notes: stand beside the title, as many as there is room for.
            logarithmic: draw log10 of the values; those not above 0 leave a gap.
            percent: values are shares of 1.
            growing: points are still added.
            meanwhile: why there are no lines yet.
            mark: x at which the last line has the sign of the selected checkpoint.
            empty: replaces the words that stand there without lines.
        """
        self._empty = empty or self._empty
        if (logarithmic, percent) != (self._content.logarithmic, self._content.percent):
            self._held = None
        lines = [line for line in lines if line.finite.any()]
        self._content = Content(lines, value, notes, logarithmic, percent, growing, meanwhile, mark)
        before, self.xs = len(self.xs), places(lines)
        if bool(before) != bool(len(self.xs)) and self.has_focus:
            self.refresh_bindings()
        window = self.view.window
        if not len(self.xs) or (window is not None and (window[0] >= self.xs[-1] or window[1] <= self.xs[0])):
            self.view = View()  # nothing is left of what was seen: another run is shown
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

    def look(self, view: View) -> None:
        """See another part, read another place off."""
        if view.window != self.view.window:
            self._held = None
        self.view = view
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row, from the picture that is drawn once per change."""
        key = self._key()
        if key != self._drawn:
            self._rows = self._draw(self.size)
            self._drawn = key
        return self._rows[y] if y < len(self._rows) else Strip.blank(self.size.width, self.rich_style)

    def _key(self) -> tuple[object, ...]:
        return (self.size, self.app.theme, self._hover, self.view, self.has_focus)

    def _style(self, name: str) -> Style:
        return Style(color=self.app.theme_variables.get(name, name if name.startswith("#") else None))

    def _ground(self, name: str) -> Style:
        return Style(bgcolor=self.app.theme_variables.get(name))

    def _draw(self, size: Size) -> list[Strip]:
        base, content = self.rich_style, self._content
        width, height = size.width, size.height
        lines = [line.logarithmic() for line in content.lines] if content.logarithmic else list(content.lines)
        lines = [line for line in lines if line.finite.any()]
        if height < 4 or width < SCALE + 8 or not lines:
            self._frame = None
            return self._without_curves(size, nothing=not lines)
        frame = self._new_frame(lines, size)
        labels = y_labels(*frame.ys, frame.rows, logarithmic=content.logarithmic, percent=content.percent)
        longest = max(map(len, labels.values()), default=0)
        self._scale = scale = min(max(SCALE, longest + 1), WIDEST + 1, width - 9)
        self._frame = frame = Frame(width - scale - 1, frame.rows, frame.xs, frame.ys)
        styles = [base + self._style(line.colour) for line in lines]
        plot = braille_rows(lines, styles, base, (frame.rows, frame.columns), frame.xs, frame.ys)
        curves = [Strip(segments).adjust_cell_length(frame.columns, base) for segments in plot]
        values = self._over(curves, frame, lines, base)
        quiet, axis = base + self._style("quiet"), base + self._style("chart-axis")
        rows = [self._heading(width, values)]
        for number, curve in enumerate(curves):
            label = labels.get(number, "")
            left = [Segment(label.rjust(scale - 1)[: scale - 1], quiet), Segment("┤" if label else "│", axis)]
            rows.append(Strip.join([Strip(left), curve]).adjust_cell_length(width, base))
        below = " " * scale + x_labels(*frame.xs, frame.columns, self.unit)
        rows.append(Strip([Segment(below, quiet)]).adjust_cell_length(width, base))
        return rows

    def _without_curves(self, size: Size, *, nothing: bool) -> list[Strip]:
        """The title and, where there is nothing to draw, why."""
        base, content = self.rich_style, self._content
        width, height = size.width, size.height
        words = []
        if nothing and content.lines:
            words = textwrap.wrap(NOTHING_POSITIVE, max(8, width - 2))
        elif nothing:
            words = [self._empty, *textwrap.wrap(content.meanwhile, max(8, width - 2))]
        rows = [self._heading(width, []), *(Strip.blank(width, base) for _ in range(height - 1))]
        first = max(1, (height - len(words)) // 2)
        for row, text in zip(range(first, height), words, strict=False):
            line = Segment(text[:width].center(width), base + self._style("quiet"))
            rows[row] = Strip([line]).adjust_cell_length(width, base)
        return rows

    def _new_frame(self, lines: Sequence[Line], size: Size) -> Frame:
        """The edges of the curves' area; its columns are known once the labels of y are."""
        content, window = self._content, self.view.window
        if window is None:
            first, last = (min(float(line.x[0]) for line in lines), max(float(line.x[-1]) for line in lines))
            last = rounded_end(first, last) if content.growing else last
        else:
            first, last = window
        last = last if last > first else first + 1.0  # a single point: a scale needs two numbers
        low, high = y_range(
            lines, (first, last), whole=window is None, logarithmic=content.logarithmic, percent=content.percent
        )
        held = self._held if content.growing else None
        room = 0.05 * (high - low)
        if held is None or low + room < held[0] or high - room > held[1] or high - low < 0.6 * (held[1] - held[0]):
            held = self._held = (low, high)
        return Frame(size.width, size.height - 2, (first, last), held)

    def _over(self, curves: list[Strip], frame: Frame, lines: Sequence[Line], base: Style) -> list[Reading]:
        """Draw the mark, the selection and the cursor over the curves; what is read off."""
        content, view = self._content, self.view
        if content.mark is not None:
            with_mark(curves, frame, lines[-1], content.mark, base + self._style("accent") + Style(bold=True))
        if view.selected is not None:
            with_range(curves, frame, view.selected, self._ground("panel"))
        place = self._read_place()
        if place is None:
            return []
        ground = base + self._ground("panel")
        with_cursor(curves, frame, place, base + self._style("accent"), self._ground("panel"))
        span = 10 ** frame.ys[0] if content.logarithmic else frame.ys[1] - frame.ys[0]
        found = readings(content.lines, place, span, percent=content.percent)
        if not self._beside(found)[0]:
            with_box(curves, frame, place, found, [ground, *(ground + self._style(one.colour) for one in found)])
        return found

    def _read_place(self) -> float | None:
        """The place that is read off: that under the mouse, else the cursor."""
        return self.view.cursor if self._hover is None else View().at(self.xs, self._hover).cursor

    def _place_words(self) -> list[str]:
        """Where is read off, the longest way to say it first; none if nothing is."""
        selected, place = self.view.selected, self._read_place()
        if selected is not None:
            span = f"{selected[0]:.0f} to {selected[1]:.0f}"
            return [f"{self.unit} {span}: enter", span]
        return [] if place is None else [f"{self.unit} {place:.0f}", f"{place:.0f}"]

    def _beside(self, found: Sequence[Reading]) -> tuple[str, Sequence[Reading]]:
        """Where is read off and what, as much as has room beside the title; of one curve, the trend at least."""
        for shown in (found, found[-1:] if len(found) == BOTH else found):
            words = sum(cell_len(one.name) + bool(one.name) + len(one.text) + 2 for one in shown)
            free = self.size.width - cell_len(self.title) - words - 2
            where = next((where for where in self._place_words() if len(where) <= free), "")
            if where:
                return where, shown
        return "", ()

    def _heading(self, width: int, found: Sequence[Reading]) -> Strip:
        """The title, notes, and at the right the value or what is read off."""
        base = self.rich_style
        quiet, accent = base + self._style("quiet"), base + self._style("accent")
        right = [Segment(self._content.value, base)]
        where, shown = self._beside(found)
        if where:
            right = [Segment(where, accent)]
            for one in shown:
                right.append(Segment(f"  {one.name}{' ' * bool(one.name)}", quiet))
                right.append(Segment(one.text, base + (self._style(one.colour) if len(found) > 1 else Style())))
        elif words := self._place_words():
            right = [Segment(words[0], accent)]
        taken = sum(segment.cell_length for segment in right)
        left = [Segment(self.title, base + Style(bold=True))]
        free = width - cell_len(self.title) - taken - 2
        window = self.view.window
        zoomed = "" if window is None else f"{window[0]:.0f} to {window[1]:.0f}"
        for note in (zoomed, *self._content.notes):
            if note and cell_len(note) + 2 <= free:
                left.append(Segment(f"  {note}", quiet))
                free -= cell_len(note) + 2
        used = sum(segment.cell_length for segment in left)
        if taken and width >= used + taken + 1:
            left += [Segment(" " * (width - used - taken), base), *right]
        return Strip(left).adjust_cell_length(width, base)

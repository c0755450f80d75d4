"""A grid of pictures with captions: half blocks drawn row by row, or real pixels where the terminal has them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tesla_tui.render.cells import centred
from tesla_tui.render.grid import Pixels, resized

SMALLEST = 8
"""Side below which a picture says nothing, characters."""


@dataclass(frozen=True)
class Layout:
    """Where pictures go: `side` characters wide, half as many high, a caption under each."""

    side: int
    per_row: int
    rows: int
    """Rows on a page."""

    @property
    def per_page(self) -> int:
        """Pictures on a page."""
        return self.per_row * self.rows

    @property
    def height(self) -> int:
        """Lines of a row of pictures, caption and gap included."""
        return math.ceil(self.side / 2) + 1


def layout_for(
    count: int,
    native: int,
    size: Size,
    group: int = 1,
    zoom: int = 0,
    least: int | None = None,
    *,
    real: bool = False,
) -> Layout:
    """The largest pictures with which all are seen at once, but not smaller than legible: then they are paged.

    In half blocks a picture grows by whole numbers, so that all of its pixels are equally large.

    Args:
        count: pictures.
        native: their side, pixels.
        size: characters there are.
        group: pictures of a class; rows are made of whole classes where they fit.
        zoom: steps larger (or smaller) than that.
        least: side down to which seeing all at once is worth more than size; by default what is legible.
        real: the terminal draws real pixels, many to a character: any size will do.
    """
    least = least or max(4, min(native, SMALLEST if native <= 16 else 12))
    shrunk = range(least, max(8 * native, 32) if real else native, 2)
    sides = sorted({*shrunk, *range(native, max(size.width, native) + 1, native)})
    sides = [side for side in sides if side <= size.width and math.ceil(side / 2) + 1 <= max(size.height, 1)] or [4]
    fitting = [side for side in sides if _layout(count, side, size, group).per_page >= count]
    index = sides.index(fitting[-1]) if fitting else 0
    side = sides[min(max(index + zoom, 0), len(sides) - 1)]
    return _layout(count, side, size, group)


def whole(side: int, native: int) -> int:
    """The largest side up to this that shows every pixel equally large; a picture that has to shrink may have any."""
    return side - side % native if side >= native else side


def _layout(count: int, side: int, size: Size, group: int) -> Layout:
    per_row = max(1, (size.width + 1) // (side + 1))
    if 1 < group <= per_row:
        per_row -= per_row % group
    rows = max(1, size.height // (math.ceil(side / 2) + 1))
    if per_row >= count:
        return Layout(side, count or 1, rows)
    even = math.ceil(count / math.ceil(count / per_row))  # ten where nine fit a row: five and five
    if group == 1 and math.ceil(count / even) <= rows:
        per_row = even
    return Layout(side, per_row, rows)


class PictureGrid(Widget, can_focus=True):
    """A page of pictures in half blocks. Arrow keys are the pane's; this shows which one is selected."""

    graphics = "blocks"

    DEFAULT_CSS = "PictureGrid { width: 1fr; height: 1fr; }"

    selected: reactive[int] = reactive(0)
    """Number of the selected picture among all; -1 for none."""

    class Chosen(Message):
        """A picture was clicked."""

        def __init__(self, number: int, opened: bool) -> None:
            super().__init__()
            self.number = number
            """Among all pictures."""
            self.opened = opened
            """By a second click: show it large."""

    class Resized(Message):
        """The size changed: lay the pictures out again."""

    def on_resize(self) -> None:
        """Tell."""
        self.post_message(self.Resized())

    def __init__(self, *, selectable: bool = True, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.selectable = selectable
        self.pixels: Pixels = np.zeros((0, 1, 1, 1), dtype=np.uint8)
        self.captions: Sequence[str] = ()
        self.layout_now = Layout(SMALLEST, 1, 1)
        self.first = 0
        self._strips: dict[int, Strip] = {}
        self._small: dict[int, Pixels] = {}

    def show(self, pixels: Pixels, captions: Sequence[str], layout: Layout, first: int) -> None:
        """Draw the page that starts with picture `first` of `(N, H, W, C)`."""
        self.pixels, self.captions, self.layout_now, self.first = pixels, captions, layout, first
        self._strips.clear()
        self._small.clear()
        self.refresh()

    def largest(self, side: int, native: int) -> int:
        """The side, at most this, at which a picture looks right here."""
        return whole(side, native)

    def watch_selected(self) -> None:
        """Draw the frame elsewhere."""
        self._strips.clear()

    def on_click(self, event: events.Click) -> None:
        """Select; twice opens."""
        layout = self.layout_now
        column, row = event.x // (layout.side + 1), event.y // layout.height
        number = self.first + row * layout.per_row + column
        if self.selectable and column < layout.per_row and number < len(self.pixels):
            self.post_message(self.Chosen(number, event.chain > 1))

    def render_line(self, y: int) -> Strip:
        """One line of characters: a line of two rows of pixels, or captions."""
        strip = self._strips.get(y)
        if strip is None or strip.cell_length != self.size.width:
            strip = self._strips[y] = self._line(y)
        return strip

    def _line(self, y: int) -> Strip:
        base = self.rich_style
        layout = self.layout_now
        row, inside = divmod(y, layout.height)
        start = self.first + row * layout.per_row
        end = min(start + layout.per_row, len(self.pixels))
        if row >= layout.rows or start >= end:
            return Strip.blank(self.size.width, base)
        segments: list[Segment] = []
        for number in range(start, end):
            if number > start:
                segments.append(Segment(" ", base))
            if inside == layout.height - 1:
                segments.append(self._caption(number, base))
            else:
                segments.extend(_blocks(self._resized(number), inside))
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def _caption(self, number: int, base: Style) -> Segment:
        side = self.layout_now.side
        text = self.captions[number] if number < len(self.captions) else ""
        colours = self.app.theme_variables
        if self.selectable and number == self.selected:
            style = Style(color=colours.get("background"), bgcolor=colours.get("primary"), bold=True)
            return Segment(centred(f"▸{text}", side), style)
        return Segment(centred(text, side), base + Style(color=colours.get("quiet")))

    def _resized(self, number: int) -> Pixels:
        if number not in self._small:
            side = self.layout_now.side
            self._small[number] = np.asarray(resized(self.pixels[number], side, side))
        return self._small[number]


def _blocks(image: Pixels, line: int) -> list[Segment]:
    """One line of characters of a picture, equal neighbours in one segment."""
    upper = image[2 * line].tolist()
    lower = image[2 * line + 1].tolist() if 2 * line + 1 < len(image) else upper
    segments: list[Segment] = []
    run, before = 0, None
    for pair in zip(map(tuple, upper), map(tuple, lower), strict=True):
        if pair != before and before is not None:
            segments.append(Segment("▀" * run, _pair_style(*before)))
            run = 0
        run, before = run + 1, pair
    if before is not None:
        segments.append(Segment("▀" * run, _pair_style(*before)))
    return segments


@lru_cache(maxsize=8192)
def _pair_style(upper: tuple[int, int, int], lower: tuple[int, int, int]) -> Style:
    return Style(color=_colour(upper), bgcolor=_colour(lower))


def _colour(rgb: tuple[int, int, int]) -> Color:
    # As Color.from_rgb, without spelling it in hexadecimal first.
    return Color(str(rgb), ColorType.TRUECOLOR, None, ColorTriplet(*rgb))

"""The images of two runs side by side, on one time line."""

from collections.abc import Sequence
from threading import Lock
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from tesla_tui.live.dialogs.side import Side
from tesla_tui.live.setting_words import value_words
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.live.widgets.pictures import PictureGrid, layout_for
from tesla_tui.live.widgets.pixel_grid import picture_grid
from tesla_tui.live.widgets.runs_table import wrapped
from tesla_tui.live.widgets.scrubber import Scrubber
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.runs import differing, facts_of, setting
from tesla_tui.watch.selected import checkpoints_of, selected_of

PLAY = 0.25
"""Seconds a frame is shown while playing."""
FOLLOW = 1.0
"""Seconds between two looks at runs that are still driven."""
SIDES = ("left", "right")


class CompareScreen(Screen[None]):
    """Two runs of those given.

    Args:
        feeds: the runs, in the order of the table they come from; at least two.
        left: name of a run.
        right: name of another run.
        reading: held while the runs' journals are read elsewhere.
    """

    HELP = """
Two runs at the same iteration, with the settings in which they differ. Where a run has no images of an iteration, its
last ones before it are shown. `,` and `.` step through time, `p` plays, `b` goes to the selected checkpoint of the left
run, then of the right one. `↑` and `↓` show another run at the right, `x` exchanges the sides.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,c", "close", "close", key_display="esc", id="compare.close"),
        Binding("comma,left", "step(-1)", "step", key_display=", .", id="compare.back"),
        Binding("full_stop,right", "step(1)", "step forward", show=False, id="compare.on"),
        Binding("p", "play", "play", id="compare.play"),
        Binding("b", "best", "best", id="compare.best"),
        Binding("up", "other(-1)", "other run", key_display="↑ ↓", id="compare.previous"),
        Binding("down", "other(1)", "next run", show=False, id="compare.next"),
        Binding("x", "exchange", "exchange", id="compare.exchange"),
        Binding("less_than_sign,home", "ends(0)", "first", key_display="<", show=False, id="compare.first"),
        Binding("greater_than_sign,end", "ends(1)", "newest", key_display=">", show=False, id="compare.newest"),
        Binding("pageup", "page(-1)", "previous page", show=False, id="compare.page-back"),
        Binding("pagedown", "page(1)", "next page", show=False, id="compare.page-on"),
        Binding("question_mark", "app.help", "help", key_display="?", id="compare.help"),
    ]

    def __init__(self, feeds: Sequence[RunFeed], left: str, right: str, reading: Lock) -> None:
        super().__init__()
        self._reading = reading
        self._feeds = list(feeds)
        by_name = {feed.run.name: feed for feed in feeds}
        self._sides = [Side.of(by_name[left]), Side.of(by_name[right])]
        self._at: int | None = None
        """The iteration; None follows the newest images."""
        self._page = 0
        self._playing: Timer | None = None

    def compose(self) -> ComposeResult:
        """What differs, two grids, the time line."""
        yield Static(id="compare-differs")
        with Horizontal(id="compare-grids"):
            for side in SIDES:
                with Vertical(id=f"compare-{side}", classes="compare-half"):
                    yield Static(id=f"compare-{side}-title", classes="compare-title")
                    yield picture_grid(selectable=False, id=f"compare-{side}-grid")
        with Horizontal(classes="compare-line"):
            yield Scrubber(id="compare-scrubber")
            yield Static(id="compare-words")
        yield KeyLine()

    def on_mount(self) -> None:
        """Follow runs that are still changing."""
        self.set_interval(FOLLOW, self._follow)

    def on_picture_grid_resized(self) -> None:
        """Lay the images out again."""
        self.draw()

    # --- what keys do

    def action_close(self) -> None:
        """Back to the table."""
        self.dismiss(None)

    def action_step(self, by: int) -> None:
        """One recorded iteration of either run on or back."""
        self._stop_playing()
        self._step(by)

    def action_ends(self, last: int) -> None:
        """The first iteration, or the newest."""
        self._stop_playing()
        there = self._iterations()
        self._at = None if last or not there else there[0]
        self.draw()

    def action_play(self) -> None:
        """Play from here, from the start when at the end; again stops."""
        if self._playing is not None:
            self._stop_playing()
            self.draw()
            return
        there = self._iterations()
        if self._at is None or self._at >= there[-1]:
            self._at = there[0] if there else None
        self._playing = self.set_interval(PLAY, self._play_on)
        self.draw()

    def action_best(self) -> None:
        """The selected checkpoint of the left run; from there, that of the right one."""
        self._stop_playing()
        found = self._selected()
        if not found:
            self.notify("Neither run has a selected checkpoint yet.", severity="warning")
            return
        self._at = found[-1] if self._at == found[0] else found[0]
        self.draw()

    def action_other(self, by: int) -> None:
        """Another run at the right."""
        left, right = (side.feed.run.name for side in self._sides)
        others = [feed for feed in self._feeds if feed.run.name != left]
        names = [feed.run.name for feed in others]
        self._sides[1] = Side.of(others[(names.index(right) + by) % len(others)])
        self.draw()

    def action_exchange(self) -> None:
        """Left to the right, right to the left."""
        self._sides.reverse()
        self.draw()

    def action_page(self, by: int) -> None:
        """Other classes."""
        self._page = max(0, self._page + by)
        self.draw()

    def on_scrubber_moved(self, message: Scrubber.Moved) -> None:
        """By mouse."""
        self._stop_playing()
        there = self._iterations()
        if message.position < len(there):
            self._at = None if message.position == len(there) - 1 else there[message.position]
            self.draw()

    # --- drawing

    def draw(self) -> None:
        """Everything, from the films."""
        there = self._iterations()
        frames = [side.frame(self._at) for side in self._sides]
        per_class = min((frame.shown for frame in frames if frame is not None), default=1)
        pages = 1
        for name, side, frame in zip(SIDES, self._sides, frames, strict=True):
            grid = self.query_one(f"#compare-{name}-grid", PictureGrid)
            title = side.title(frame, per_class, grid.size.width, self.app.theme_variables)
            self.query_one(f"#compare-{name}-title", Static).update(title, layout=False)
            if frame is None or grid.size.width < 4:
                grid.show(np.zeros((0, 1, 1, 1), dtype=np.uint8), (), layout_for(0, 8, grid.size), 0)
                continue
            kept = [n for n in range(len(frame.pixels)) if n % frame.shown < per_class]
            layout = layout_for(len(kept), frame.pixels.shape[1], grid.size, per_class)
            pages = max(pages, -(-len(kept) // layout.per_page))
            self._page = min(self._page, pages - 1)
            captions = [side.caption_of(n, frame.shown, per_class) for n in kept]
            first = min(self._page, (len(kept) - 1) // layout.per_page) * layout.per_page
            grid.show(frame.pixels[kept], captions, layout, first)
        self.query_one("#compare-differs", Static).update(self._differences())
        at = self._at if self._at is not None else (there[-1] if there else 0)
        position = max((n for n, iteration in enumerate(there) if iteration <= at), default=0)
        marks = sorted({i for side in self._sides for i in checkpoints_of(side.feed)})
        self.query_one("#compare-scrubber", Scrubber).show(there, marks, position, self._selected())
        words = f"iteration {at}" + (f"  page {self._page + 1}/{pages}" if pages > 1 else "")
        playing = "▶ " if self._playing is not None else ""
        self.query_one("#compare-words", Static).update(Text(playing + words, style=self.app.theme_variables["quiet"]))

    def _differences(self) -> Text:
        """The settings in which the two differ, each with both values."""
        colours = self.app.theme_variables
        facts = [facts_of(side.feed, 0.0) for side in self._sides]
        keys = differing(facts)
        pairs = []
        for key in keys:
            values = " · ".join(value_words(setting(one.settings, key)) for one in facts)
            pairs.append(f"{key} {values}")
        lines = wrapped(["differs in" if keys else "equal settings", *pairs], self.size.width - 2)
        text = Text("\n".join(lines), style=colours["foreground"])
        text.highlight_words(["differs in", "equal settings", *keys], style=colours["quiet"])
        return text

    def _iterations(self) -> list[int]:
        """Those that either run has images of."""
        return sorted({iteration for side in self._sides for iteration in side.film.iterations})

    def _selected(self) -> list[int]:
        """The selected checkpoints: that of the left run first."""
        return [best.iteration for side in self._sides if (best := selected_of(side.feed)) is not None]

    def _follow(self) -> None:
        changed = [side.film.look() for side in self._sides]
        if self._reading.acquire(blocking=False):
            try:
                changed += [side.feed.poll() for side in self._sides]
            finally:
                self._reading.release()
        if any(changed):
            self.draw()

    def _step(self, by: int) -> None:
        there = self._iterations()
        if not there:
            return
        at = len(there) - 1 if self._at is None else max((n for n, i in enumerate(there) if i <= self._at), default=0)
        at = min(max(at + by, 0), len(there) - 1)
        self._at = None if at == len(there) - 1 else there[at]
        self.draw()

    def _play_on(self) -> None:
        self._step(1)
        if self._at is None:
            self._stop_playing()
            self.draw()

    def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None

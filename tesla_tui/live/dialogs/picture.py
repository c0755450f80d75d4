"""One image, large: its soft labels and its history."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Static

from engine.settings.decoders import formation_words
from tesla_tui.live.context import Context
from tesla_tui.live.widgets.bars import bar
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.live.widgets.pictures import Layout, PictureGrid
from tesla_tui.live.widgets.pixel_grid import picture_grid
from tesla_tui.live.widgets.scrubber import Scrubber
from tesla_tui.render.cells import caption, cut, padded
from tesla_tui.watch.previews import SEEN, decoded_frame, formation_of
from tesla_tui.watch.selected import checkpoints_of, selected_of

HISTORY = 6
"""Maximum number of pictures in the history strip."""
MOST_BAR = 12
"""Columns of the bar that shows a share of a soft label."""
NARROWEST = 28
"""Columns of the words, before the screen is laid out."""


class PictureScreen(Screen[tuple[int, int | None]]):
    """An image in full. Ends with the image and iteration that were last looked at."""

    HELP = """
One synthetic image. Arrows go to its neighbours, `,` and `.` through time, `escape` closes it. With multi-formation
it holds several smaller ones; `d` shows them as networks see them.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "close", "close", key_display="esc", id="picture.close"),
        Binding("left,up", "move(-1)", "previous", key_display="←", id="picture.previous"),
        Binding("right,down", "move(1)", "next", key_display="→", id="picture.next"),
        Binding("comma", "step(-1)", "step back", key_display=",", id="picture.back"),
        Binding("full_stop", "step(1)", "step forward", key_display=".", id="picture.on"),
        Binding("d", "decode", "decode", key_display="d", id="picture.decode"),
        Binding("question_mark", "app.help", "help", key_display="?", show=False),
    ]

    def __init__(self, context: Context, number: int, iteration: int | None) -> None:
        super().__init__()
        self.context = context
        self._number = number
        self._at = iteration
        self._decoded = False

    def compose(self) -> ComposeResult:
        """Picture at the left, words at the right, time below."""
        with Horizontal(id="picture-body"):
            yield picture_grid(selectable=False, id="picture-large")
            with Vertical(id="picture-words"):
                yield Static(id="picture-facts")
                yield Static("history", id="picture-history-title")
                yield picture_grid(selectable=False, id="picture-history")
        yield Scrubber(id="picture-scrubber")
        yield KeyLine()

    def on_mount(self) -> None:
        """Follow a run that is still changing."""
        self.set_interval(1.0, self._follow)

    def on_picture_grid_resized(self) -> None:
        """Draw to the new size: the history's changes with the facts above it, too."""
        self.draw()

    def action_close(self) -> None:
        """Back to the grid."""
        self.dismiss((self._number, self._at))

    def action_move(self, by: int) -> None:
        """A neighbour."""
        self._number = max(0, self._number + by)
        self.draw()

    def action_step(self, by: int) -> None:
        """Through time."""
        there = self._iterations()
        if there:
            index = there.index(self._at) if self._at in there else len(there) - 1
            index = min(max(index + by, 0), len(there) - 1)
            self._at = None if index == len(there) - 1 else there[index]
            self.draw()

    def action_decode(self) -> None:
        """The picture as it is stored, or what networks see of it."""
        self._decoded = not self._decoded
        self.draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`decode` is for pictures that hold several images."""
        return action != "decode" or self._factor() > 1

    def _factor(self) -> int:
        feed = self.context.feed
        return 1 if feed is None else formation_of(feed.view.settings)

    def on_scrubber_moved(self, message: Scrubber.Moved) -> None:
        """By mouse."""
        there = self._iterations()
        if message.position < len(there):
            self._at = there[message.position]
            self.draw()

    def _iterations(self) -> list[int]:
        return self.context.film.iterations if self.context.film else []

    def _follow(self) -> None:
        if self._at is None:
            self.draw()

    def draw(self) -> None:
        """Everything, from the film."""
        film = self.context.film
        frame = None if film is None else (film.latest() if self._at is None else film.frame(self._at))
        feed = self.context.feed
        if film is None or frame is None or feed is None:
            return
        self._number = min(self._number, len(frame.pixels) - 1)
        k = self._number // frame.shown
        name = self._class_name(k)
        large = self.query_one("#picture-large", PictureGrid)
        side = max(2, min(large.size.width, 2 * (large.size.height - 1)))
        native = frame.pixels.shape[1]
        side = large.largest(side, native)
        stored, factor = frame.pixels[self._number : self._number + 1], self._factor() if self._decoded else 1
        if factor > 1:
            side = max(2, min((large.size.width + 1) // factor - 1, 2 * (large.size.height // factor - 1)))
            side = large.largest(side, native)
            stored = decoded_frame(replace(frame, pixels=stored, shown=1, top=None), factor).pixels
        large.show(stored, [name] * len(stored), Layout(side, factor, factor), 0)
        self.query_one("#picture-facts", Static).update(
            self._facts(frame.top, name, frame.iteration, native, frame.shown)
        )
        self._history()
        there = self._iterations()
        position = there.index(frame.iteration) if frame.iteration in there else len(there) - 1
        selected = selected_of(feed)
        self.query_one("#picture-scrubber", Scrubber).show(
            there, checkpoints_of(feed), position, () if selected is None else (selected.iteration,)
        )

    def _facts(self, top: object, name: str, iteration: int, native: int, shown: int) -> Text:
        colours = self.app.theme_variables
        feed = self.context.feed
        assert feed is not None
        text = Text(name, style="bold")
        if shown > 1:
            text.append(f"  image {self._number % shown + 1}", style=f"not bold {colours['quiet']}")
        holding = formation_words(self._factor())
        words = f"; {SEEN if self._decoded else holding} (d)" if holding else ""
        text.append(
            f"\niteration {iteration}, {native}x{native} pixels{words}\n\n", style=f"not bold {colours['quiet']}"
        )
        if not isinstance(top, list) or self._number >= len(top):
            kind = feed.view.settings.get("labels.kind", "hard")
            soft = kind != "hard"
            words = f"{kind} labels: none yet" if soft else f"hard label: {name}"
            return text.append(words, style="not bold")
        text.append("soft label\n", style="bold")
        room = (self.query_one("#picture-words").size.width or NARROWEST) - len("  100.0 %")
        length = min(MOST_BAR, room // 3)
        names = [cut(self._class_name(k), room - length) for k, _ in top[self._number]]
        width = max(map(cell_len, names), default=0)
        for name, (_, share) in zip(names, top[self._number], strict=True):
            text.append(f"{padded(name, width)} ", style="not bold")
            text.append_text(bar(share, length, colours["primary"], colours["chart-axis"]))
            text.append(f" {100 * share:5.1f} %\n", style="not bold")
        return text

    def _class_name(self, k: int) -> str:
        names = self.context.feed.view.names if self.context.feed else []
        return caption(names[k]) if k < len(names) else f"class {k}"

    def _history(self) -> None:
        film = self.context.film
        strip = self.query_one("#picture-history", PictureGrid)
        if film is None or strip.size.width < 6 or strip.size.height < 3:
            return
        there = film.iterations
        count = min(HISTORY, len(there))
        chosen = [there[round(i * (len(there) - 1) / max(count - 1, 1))] for i in range(count)]
        frames = [frame for iteration in chosen if (frame := film.frame(iteration)) is not None]
        frames = [frame for frame in frames if self._number < len(frame.pixels)]
        if not frames:
            return
        pixels = np.stack([frame.pixels[self._number] for frame in frames])
        per_row = 3 if len(frames) > 3 else len(frames)
        rows = -(-len(frames) // per_row)
        side = max(4, min((strip.size.width + 1) // per_row - 1, 2 * (strip.size.height // rows - 1)))
        side = strip.largest(side, pixels.shape[1])
        strip.show(pixels, [str(frame.iteration) for frame in frames], Layout(side, per_row, rows), 0)

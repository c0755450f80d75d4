"""Tab 2: the synthetic images, now and at any remembered iteration."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from engine.runs.preview_frames import Frame
from tesla_tui.live.context import Context
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.time_line import TimeLine
from tesla_tui.live.widgets.picture_title import captions_of, iteration_words, title_words
from tesla_tui.live.widgets.pictures import Layout, PictureGrid, layout_for
from tesla_tui.live.widgets.pixel_grid import picture_grid
from tesla_tui.live.widgets.scrubber import Scrubber
from tesla_tui.watch.previews import decoded_frame, formation_of
from tesla_tui.watch.selected import checkpoints_of, selected_of

PLAY = 0.25
"""Seconds a frame is shown while playing; a slow terminal gets longer."""
EMPTY = "No images yet. They appear with the first iteration. Press 1 to see the run's progress."
GONE = "The previews of this run are gone. Its checkpoints, if it has any, still hold the images: tesla show, or x."


class ImagesPane(Pane):
    """The grid, the scrubber, and comparing with the beginning."""

    HELP = """
Each picture is one synthetic image, labelled with its class. The time line below shows every recorded iteration, with
`┿` where a checkpoint is kept and `◆` at the selected one, the one with the best held-out accuracy: `b` shows it, and a
finished run opens on it. `.` and `,` step through time, `p` plays it, `>` goes to the newest. `c` shows the initial
images for comparison. `enter` opens an image with its soft labels and its history.
With multi-formation each picture holds several smaller ones; `d` shows them as networks see them.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1,0)", "select", show=False, id="images.left"),
        Binding("right", "move(1,0)", "select", show=False, id="images.right"),
        Binding("up", "move(0,-1)", "select", show=False, id="images.up"),
        Binding("down", "move(0,1)", "select", show=False, id="images.down"),
        Binding("pageup", "page(-1)", "previous page", show=False, id="images.page-back"),
        Binding("pagedown", "page(1)", "next page", show=False, id="images.page-on"),
        Binding("enter", "open", "open", id="images.open"),
        Binding("comma", "step(-1)", "step", key_display=", .", id="images.back"),
        Binding("full_stop", "step(1)", "step forward", key_display=".", show=False, id="images.on"),
        Binding("p", "play", "play", id="images.play"),
        Binding("c", "compare", "compare", id="images.compare"),
        Binding("d", "decode", "decode", id="images.decode"),
        Binding("less_than_sign,home", "ends(0)", "first", key_display="<", show=False, id="images.first"),
        Binding("greater_than_sign,end", "ends(1)", "last", key_display=">", id="images.live"),
        Binding("plus", "zoom(1)", "larger", key_display="+", show=False, id="images.larger"),
        Binding("minus", "zoom(-1)", "smaller", key_display="-", show=False, id="images.smaller"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="images")
        self._line = TimeLine(context)
        self._selected = 0
        self._zoom = 0
        self._compare = False
        self._decoded = False
        self._playing: Timer | None = None
        self._key: tuple[object, ...] = ()
        self._layout = Layout(8, 1, 1)
        self._count = 0

    def compose(self) -> ComposeResult:
        """A title, one or two grids, the scrubber."""
        yield Static(id="images-title")
        yield Static(EMPTY, id="images-empty")
        with Horizontal(id="images-grids"):
            with Vertical(id="initial-half"):
                yield Static("initial", id="initial-title")
                yield picture_grid(selectable=False, id="initial-grid")
            with Vertical(id="now-half"):
                yield Static(id="now-title")
                yield picture_grid(id="image-grid")
        with Horizontal(id="scrub-line"):
            yield Scrubber(id="scrubber")
            yield Static(id="scrub-words")

    def focus_first(self) -> None:
        """The grid."""
        self.query_one("#image-grid").focus()

    def run_changed(self) -> None:
        """Follow it."""
        self._line.chosen, self._selected, self._key, self._decoded = None, 0, (), False
        self._stop_playing()

    # --- what keys do

    def action_move(self, columns: int, rows: int) -> None:
        """Select a neighbour; the page follows."""
        wanted = self._selected + columns + rows * self._layout.per_row
        if 0 <= wanted < self._count:
            self._selected = wanted
            self.update_view()

    def action_page(self, by: int) -> None:
        """A page on or back."""
        self._selected = min(max(self._selected + by * self._layout.per_page, 0), max(self._count - 1, 0))
        self.update_view()

    def action_zoom(self, by: int) -> None:
        """Larger or smaller pictures."""
        self._zoom = min(max(self._zoom + by, -20), 20)
        self.update_view()

    def action_compare(self) -> None:
        """Show or hide the initial images next to the current ones."""
        self._compare = not self._compare
        self.call_after_refresh(self.update_view)
        self.update_view()

    def action_decode(self) -> None:
        """Show the pictures as they are stored, or what networks see."""
        views = self._factor() ** 2
        self._decoded = not self._decoded
        self._selected = self._selected * views if self._decoded else self._selected // views
        self.update_view()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`decode` is for pictures that hold several images."""
        return action != "decode" or self._factor() > 1

    def action_step(self, by: int) -> None:
        """One remembered iteration on or back."""
        self._go(self._line.position + by)

    def action_ends(self, last: int) -> None:
        """The first iteration, or the newest."""
        self._go(len(self._line.iterations) - 1 if last else 0)

    def show_selected(self) -> None:
        """The selected checkpoint."""
        selected = selected_of(self.context.feed)
        if selected is None:
            self.notify("No checkpoint is selected yet: nothing was measured.", severity="warning")
        elif selected.iteration not in self._line.iterations:
            self.notify(f"There is no picture of the selected checkpoint {selected.iteration}.", severity="warning")
        else:
            self._go(self._line.iterations.index(selected.iteration))

    def action_play(self) -> None:
        """Play the film from the chosen frame (from the start when there is none after it); again stops."""
        line = self._line
        if self._playing is not None:
            self._stop_playing()
            self.update_view()
            return
        if len(line.iterations) < 2:
            there = "is only one frame" if line.iterations else "are no frames"
            self.notify(f"Nothing to play: there {there}.", severity="warning")
            return
        if line.chosen is None or line.position == len(line.iterations) - 1:
            line.go(0)
        self._playing = self.set_interval(PLAY, self._play_on)
        self.update_view()

    def action_open(self) -> None:
        """The selected image, large."""
        if self.context.film is not None and self._count:
            newest = self._line.position == len(self._line.iterations) - 1
            at = None if newest else self._line.shown
            self.app.push_screen(PictureScreen(self.context, self._selected // self._views(), at), self._picture_closed)

    def on_scrubber_moved(self, message: Scrubber.Moved) -> None:
        """The scrubber was moved."""
        self._go(message.position)

    def on_picture_grid_chosen(self, message: PictureGrid.Chosen) -> None:
        """A picture was clicked."""
        self._selected = message.number
        self.update_view()
        if message.opened:
            self.action_open()

    # --- drawing

    def update_view(self) -> None:
        """The frame that is due, if it is not drawn yet."""
        film, feed = self.context.film, self.context.feed
        there = self._line.iterations
        frame = self._line.frame()
        first = film.frame(there[0]) if film is not None and there and self._compare else None
        if self._views() > 1:
            factor = self._factor()
            frame, first = (None if stored is None else decoded_frame(stored, factor) for stored in (frame, first))
        empty = self.query_one("#images-empty", Static)
        empty.display = frame is None
        empty.update(GONE if feed is not None and not feed.live and feed.view.iteration else EMPTY)
        grids = self.query_one("#images-grids")
        if frame is not None and not grids.display:
            self.call_after_refresh(self.update_view)  # the grid has no size before it is shown
        grids.display = frame is not None
        self.query_one("#scrub-line").display = frame is not None
        self.query_one("#initial-half").display = self._compare
        self.query_one("#now-title").display = self._compare
        if frame is None or feed is None:
            self.query_one("#images-title", Static).update("", layout=False)
            return
        grid = self.query_one("#image-grid", PictureGrid)
        self._count = len(frame.pixels)
        self._selected = min(self._selected, self._count - 1)
        real = grid.graphics == "pixels"
        self._layout = layout_for(self._count, frame.pixels.shape[1], grid.size, frame.shown, self._zoom, real=real)
        page = self._selected // self._layout.per_page
        key = (
            id(frame), id(first), self._decoded, grid.size, self._zoom, page, self.app.theme, grid.graphics,
            tuple(feed.view.names[:1]),
        )  # fmt: skip
        if key != self._key:
            self._key = key
            captions = captions_of(self.context, frame, self._views())
            grid.show(frame.pixels, captions, self._layout, page * self._layout.per_page)
            if first is not None:
                other = self.query_one("#initial-grid", PictureGrid)
                other.show(first.pixels, captions, self._layout, page * self._layout.per_page)
                self.query_one("#initial-title", Static).update(f"initial  iteration {first.iteration}", layout=False)
        grid.selected = self._selected
        self._words(frame, page)
        selected = selected_of(feed)
        self.query_one("#scrubber", Scrubber).show(
            there, checkpoints_of(feed), self._line.position, () if selected is None else (selected.iteration,)
        )

    def on_resize(self) -> None:
        """Another size, another layout."""
        self.call_after_refresh(self.update_view)

    def _words(self, frame: Frame, page: int) -> None:
        colours, line = self.app.theme_variables, self._line
        at, last = line.position + 1, len(line.iterations)
        pages = (page + 1, -(-self._count // self._layout.per_page))
        title = title_words(
            self.context, frame, colours, picture=self._selected, views=self._views(),
            playing=self._playing is not None, newest=at == last, page=pages, width=self.content_size.width,
        )  # fmt: skip
        self.query_one("#images-title", Static).update(title, layout=False)
        now = Text("now  " if at == last else "then  ")
        now.append_text(iteration_words(self.context, frame.iteration, colours, short=True))
        self.query_one("#now-title", Static).update(now, layout=False)
        self.query_one("#scrub-words", Static).update(Text(f"frame {at}/{last}", style=colours["quiet"]), layout=False)

    def _go(self, position: int) -> None:
        """To a frame of the time line."""
        self._stop_playing()
        self._line.go(position)
        self.update_view()

    def _factor(self) -> int:
        feed = self.context.feed
        return 1 if feed is None else formation_of(feed.view.settings)

    def _views(self) -> int:
        """Pictures that stand for a stored one."""
        return self._factor() ** 2 if self._decoded else 1

    def _play_on(self) -> None:
        self._line.go(self._line.position + 1)
        if self._line.position == len(self._line.iterations) - 1:
            self._stop_playing()
        self.update_view()

    def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None

    def _picture_closed(self, result: tuple[int, int | None] | None) -> None:
        if result is not None:
            self._selected = result[0] * self._views()
            self._line.choose(result[1])
            self.update_view()

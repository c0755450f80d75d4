"""Tab 2: the synthetic images, now and at any remembered iteration."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from engine.runs.preview_frames import Frame
from engine.settings.decoders import formation_words
from tesla_tui.live.context import Context
from tesla_tui.live.dialogs.picture import PictureScreen
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.widgets.pictures import Layout, PictureGrid, layout_for
from tesla_tui.live.widgets.pixel_grid import picture_grid
from tesla_tui.live.widgets.scrubber import Scrubber
from tesla_tui.render.words import one_line
from tesla_tui.watch.previews import SEEN, decoded_frame, formation_of

PLAY = 0.25
"""Seconds a frame is shown while playing; a slow terminal gets longer."""
EMPTY = "No images yet. They appear with the first iteration. Press 1 to see the run's progress."


class ImagesPane(Pane):
    """The grid, the scrubber, and comparing with the beginning."""

    HELP = """
Each picture is one synthetic image, labelled with its class. The time line below shows every recorded iteration, with
`┿` where a checkpoint is kept. `.` and `,` step through it, `p` plays it, `>` returns to live. `c` shows the initial
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
        Binding("greater_than_sign,end", "ends(1)", "live", key_display=">", id="images.live"),
        Binding("plus", "zoom(1)", "larger", key_display="+", show=False, id="images.larger"),
        Binding("minus", "zoom(-1)", "smaller", key_display="-", show=False, id="images.smaller"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="images")
        self._at: int | None = None
        """Iteration that is shown; None follows the newest."""
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
        """Back to live."""
        self._at, self._selected, self._key, self._decoded = None, 0, (), False
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
        self._stop_playing()
        self._step(by)

    def action_ends(self, last: int) -> None:
        """The first iteration, or live."""
        self._stop_playing()
        there = self._iterations()
        self._at = None if last or not there else there[0]
        self.update_view()

    def action_play(self) -> None:
        """Play the film from here (from the start when at the end); again stops."""
        if self._playing is not None:
            self._stop_playing()
            self.update_view()
            return
        there = self._iterations()
        if len(there) < 2:
            self.notify("Nothing to play yet: there is only one frame.", severity="warning")
            return
        if self._at is None or self._at >= there[-1]:
            self._at = there[0]
        self._playing = self.set_interval(PLAY, self._play_on)
        self.update_view()

    def action_open(self) -> None:
        """The selected image, large."""
        if self.context.film is not None and self._count:
            self.app.push_screen(
                PictureScreen(self.context, self._selected // self._views(), self._at), self._picture_closed
            )

    def on_scrubber_moved(self, message: Scrubber.Moved) -> None:
        """The scrubber was moved."""
        self._stop_playing()
        there = self._iterations()
        if message.position < len(there):
            self._at = None if message.position == len(there) - 1 else there[message.position]
            self.update_view()

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
        there = self._iterations()
        frame = None
        if film is not None and there:
            frame = film.latest() if self._at is None else film.frame(self._at)
        first = film.frame(there[0]) if film is not None and there and self._compare else None
        if self._views() > 1:
            factor = self._factor()
            frame, first = (None if stored is None else decoded_frame(stored, factor) for stored in (frame, first))
        self.query_one("#images-empty").display = frame is None
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
        self._layout = layout_for(self._count, frame.pixels.shape[1], grid.size, frame.shown, self._zoom)
        page = self._selected // self._layout.per_page
        key = (
            id(frame), id(first), self._decoded, grid.size, self._zoom, page, self.app.theme, grid.graphics,
            tuple(feed.view.names[:1]),
        )  # fmt: skip
        if key != self._key:
            self._key = key
            captions = self._captions(frame)
            grid.show(frame.pixels, captions, self._layout, page * self._layout.per_page)
            if first is not None:
                other = self.query_one("#initial-grid", PictureGrid)
                other.show(first.pixels, captions, self._layout, page * self._layout.per_page)
                self.query_one("#initial-title", Static).update(f"initial  iteration {first.iteration}", layout=False)
        grid.selected = self._selected
        self._words(frame, page)
        position = there.index(frame.iteration) if frame.iteration in there else len(there) - 1
        self.query_one("#scrubber", Scrubber).show(there, feed.run.checkpoints(), position)

    def on_resize(self) -> None:
        """Another size, another layout."""
        self.call_after_refresh(self.update_view)

    def _words(self, frame: Frame, page: int) -> None:
        colours = self.app.theme_variables
        feed, there = self.context.feed, self._iterations()
        assert feed is not None
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append(f"iteration {frame.iteration}", style="bold")
        live = self._at is None
        if self._playing is not None:
            title.append("  ▶ playing", style=colours["accent"])
        elif live:
            title.append("  live" if feed.live else "  newest", style=colours["success"])
        name = self._captions(frame)[self._selected]
        title.append(f"   ▸ {name}", style=colours["primary"])
        if frame.top is not None and self._selected < len(frame.top):
            best = ", ".join(f"{self._class(k)} {100 * p:.0f} %" for k, p in frame.top[self._selected][:3])
            title.append(f"  {best}", style=colours["quiet"])
        pages = -(-self._count // self._layout.per_page)
        if pages > 1:
            title.append(f"   page {page + 1}/{pages}", style=colours["quiet"])
        if holding := formation_words(self._factor()):
            title.append(f"   {SEEN if self._decoded else holding} (d)", style=colours["quiet"])
        ipc = int(feed.view.settings.get("distill.ipc", frame.shown))
        shown = frame.shown // self._views()
        if shown < ipc:
            title.append(f"   first {shown} of {ipc} per class", style=colours["quiet"])
        self.query_one("#images-title", Static).update(title, layout=False)
        self.query_one("#now-title", Static).update(
            f"{'now' if live else 'then'}  iteration {frame.iteration}", layout=False
        )
        at = there.index(frame.iteration) + 1 if frame.iteration in there else len(there)
        self.query_one("#scrub-words", Static).update(
            Text(f"frame {at}/{len(there)}", style=colours["quiet"]), layout=False
        )

    def _captions(self, frame: Frame) -> list[str]:
        views = self._views()
        numbers = [n % frame.shown for n in range(len(frame.pixels))]
        image = [f" {n // views + 1}" * (frame.shown > views) for n in numbers]
        view = [f"{'.' if frame.shown > views else ' '}{n % views + 1}" * (views > 1) for n in numbers]
        return [self._class(n // frame.shown) + image[n] + view[n] for n in range(len(numbers))]

    def _factor(self) -> int:
        feed = self.context.feed
        return 1 if feed is None else formation_of(feed.view.settings)

    def _views(self) -> int:
        """Pictures that stand for a stored one."""
        return self._factor() ** 2 if self._decoded else 1

    def _class(self, number: int) -> str:
        names = self.context.feed.view.names if self.context.feed is not None else []
        return one_line(names[number]) if number < len(names) else f"class {number}"

    def _iterations(self) -> list[int]:
        return self.context.film.iterations if self.context.film is not None else []

    def _step(self, by: int) -> None:
        there = self._iterations()
        if not there:
            return
        index = len(there) - 1 if self._at not in there else there.index(self._at or 0)
        index = min(max(index + by, 0), len(there) - 1)
        self._at = None if index == len(there) - 1 else there[index]
        self.update_view()

    def _play_on(self) -> None:
        self._step(1)
        if self._at is None:
            self._stop_playing()
            self.update_view()

    def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None

    def _picture_closed(self, result: tuple[int, int | None] | None) -> None:
        if result is not None:
            self._selected, self._at = result[0] * self._views(), result[1]
            self.update_view()

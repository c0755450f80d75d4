"""The grid with real pixels: a row of pictures is one image of the terminal's own protocol, captions are text.

`textual_image` asks the terminal what it can by writing to it, so it may only be imported before the app starts;
`tesla_tui.live.graphics` does that, once.
"""

from collections.abc import Sequence

from PIL import Image
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from tesla_tui.live import graphics
from tesla_tui.live.widgets.pictures import Layout, PictureGrid, whole
from tesla_tui.render.grid import Pixels, resized


def picture_grid(*, selectable: bool = True, id: str | None = None) -> PictureGrid:  # noqa: A002
    """A grid for this terminal."""
    kind = PixelGrid if graphics.protocol() != "blocks" else PictureGrid
    return kind(selectable=selectable, id=id)


class PixelGrid(PictureGrid):
    """A `PictureGrid` whose pictures are real pixels."""

    graphics = "pixels"

    DEFAULT_CSS = """
    PixelGrid { layout: vertical; }
    PixelGrid .pixel-row { width: auto; }
    PixelGrid .pixel-captions { height: 1; width: 1fr; }
    """

    def compose(self) -> ComposeResult:
        """Rows come with the first page."""
        yield from ()

    def show(self, pixels: Pixels, captions: Sequence[str], layout: Layout, first: int) -> None:
        """Draw the page that starts with picture `first`."""
        same = (layout, self._rows_needed(len(pixels), layout, first)) == (
            self.layout_now,
            len(self.query(".pixel-row")),
        )
        super().show(pixels, captions, layout, first)
        if not same:
            self.remove_children()
            self.mount_all(self._new_rows())
        self.call_after_refresh(self._fill)

    def largest(self, side: int, native: int) -> int:
        """Any: there are many pixels to a character."""
        return side

    def watch_selected(self) -> None:
        """Only captions change."""
        self._fill_captions()

    def render(self) -> str:
        """The children draw."""
        return ""

    render_line = Widget.render_line

    def _rows_needed(self, count: int, layout: Layout, first: int) -> int:
        return max(0, min(layout.rows, -(-(count - first) // layout.per_row)))

    def _new_rows(self) -> list[Widget]:
        widgets: list[Widget] = []
        layout = self.layout_now
        for _ in range(self._rows_needed(len(self.pixels), layout, self.first)):
            image = graphics.image_widget()
            image.add_class("pixel-row")
            image.styles.width = layout.per_row * (layout.side + 1) - 1
            image.styles.height = layout.height - 1
            widgets += [image, Static(classes="pixel-captions")]
        return widgets

    def _fill(self) -> None:
        layout = self.layout_now
        wide, high = graphics.cell_size()
        room = (layout.side * wide, (layout.height - 1) * high)
        paper = self.background_colors[1].rgb
        for row, image in enumerate(self.query(".pixel-row")):
            start = self.first + row * layout.per_row
            part = self.pixels[start : start + layout.per_row]
            canvas = Image.new("RGB", ((layout.per_row * (layout.side + 1) - 1) * wide, room[1]), paper)
            for number, picture in enumerate(part):
                side = whole(min(room), len(picture))
                left = number * (layout.side + 1) * wide + (room[0] - side) // 2
                canvas.paste(resized(picture, side, side), (left, (room[1] - side) // 2))
            image.image = canvas  # type: ignore[attr-defined]
        self._fill_captions()

    def _fill_captions(self) -> None:
        base = Style()
        for row, static in enumerate(self.query(".pixel-captions").results(Static)):
            start = self.first + row * self.layout_now.per_row
            text = Text(no_wrap=True)
            for number in range(start, min(start + self.layout_now.per_row, len(self.pixels))):
                segment = self._caption(number, base)
                text.append(segment.text, style=segment.style or "").append(" ")
            static.update(text)

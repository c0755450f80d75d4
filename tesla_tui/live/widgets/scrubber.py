"""A line through time: which remembered iteration is shown, moved with keys and mouse."""

from collections.abc import Collection, Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tesla_tui.watch.selected import SIGN


class Scrubber(Widget):
    """One line: `0 ━━━━●──◆─ 500`. Marks checkpoints and the selected one; a click or a drag moves it."""

    DEFAULT_CSS = "Scrubber { height: 1; width: 1fr; }"

    class Moved(Message):
        """A place was chosen."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position
            """Index into the iterations."""

    position: reactive[int] = reactive(0)

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._iterations: Sequence[int] = ()
        self._marks: frozenset[int] = frozenset()
        self._selected: Collection[int] = ()
        self._held = False

    def show(
        self, iterations: Sequence[int], marks: Sequence[int], position: int, selected: Collection[int] = ()
    ) -> None:
        """The iterations there are, those with a checkpoint, which one is shown, and the selected checkpoints."""
        self._iterations, self._marks, self._selected = iterations, frozenset(marks), selected
        self.position = position
        self.refresh()

    def _track(self) -> tuple[int, int, str, str]:
        left, right = (f"{self._iterations[0]} ", f" {self._iterations[-1]}") if self._iterations else ("", "")
        return len(left), max(1, self.size.width - len(left) - len(right)), left, right

    def _column(self, index: int, length: int) -> int:
        first, last = self._iterations[0], self._iterations[-1]
        if last == first:
            return 0
        return round((self._iterations[index] - first) / (last - first) * (length - 1))

    def render_line(self, y: int) -> Strip:
        """The line."""
        base, colours = self.rich_style, self.app.theme_variables
        width = self.size.width
        if y or not self._iterations:
            return Strip.blank(width, base)
        _, length, left, right = self._track()
        quiet = base + Style(color=colours.get("quiet"))
        done, rest = base + Style(color=colours.get("primary")), base + Style(color=colours.get("chart-axis"))
        at = self._column(min(self.position, len(self._iterations) - 1), length)
        cells = ["━" if column < at else "─" for column in range(length)]
        for index, iteration in enumerate(self._iterations):
            if iteration in self._marks:
                cells[self._column(index, length)] = "┿"
        styles = [done if column < at else rest for column in range(length)]
        accent = base + Style(color=colours.get("accent"), bold=True)
        cells[at], styles[at] = "●", accent
        for selected in self._selected:
            if selected not in self._iterations:
                continue
            best = self._column(self._iterations.index(selected), length)
            # Where it is the one that is shown, it is drawn as shown: reversed.
            cells[best], styles[best] = SIGN, accent + Style(reverse=best == at)
        track = [Segment(cell, style) for cell, style in zip(cells, styles, strict=True)]
        segments = [Segment(left, quiet), *track, Segment(right, quiet)]
        return Strip(segments).simplify().adjust_cell_length(width, base)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take it."""
        self._held = True
        self.capture_mouse()
        self._go(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag it."""
        if self._held:
            self._go(event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Release it."""
        self._held = False
        self.release_mouse()

    def _go(self, x: int) -> None:
        if not self._iterations:
            return
        start, length, _, _ = self._track()
        columns = [self._column(index, length) for index in range(len(self._iterations))]
        self.post_message(self.Moved(min(range(len(columns)), key=lambda index: abs(columns[index] - (x - start)))))

"""A chart that is read and zoomed with keys and with the mouse."""

from typing import ClassVar

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.message import Message

from tesla_tui.live.widgets.drawn_chart import DrawnChart
from tesla_tui.live.widgets.view import View

FAR = 10
"""Points or columns that the cursor moves at once with `pageup` and `pagedown`."""


class Chart(DrawnChart, can_focus=True):
    """A titled chart. Call `show` with new lines; it posts `Looked` when something else of them is seen."""

    DEFAULT_CSS = "Chart:focus { background: $surface; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "read", key_display="← →", id="chart.back"),
        Binding("right", "move(1)", "read on", show=False, id="chart.on"),
        Binding("pageup", f"move(-{FAR})", "far back", show=False, id="chart.far-back"),
        Binding("pagedown", f"move({FAR})", "far on", show=False, id="chart.far-on"),
        Binding("home", "end(0)", "first value", show=False, id="chart.first"),
        Binding("end", "end(1)", "last value", show=False, id="chart.last"),
        Binding("shift+left", "move(-1,1)", "select back", show=False, id="chart.select-back"),
        Binding("shift+right", "move(1,1)", "select on", show=False, id="chart.select-on"),
        Binding("enter", "zoom_selected", "zoom into the selection", show=False, id="chart.zoom-selected"),
        Binding("plus,equals_sign", "zoom_in", "zoom", key_display="+ -", id="chart.zoom-in"),
        Binding("minus", "zoom_out", "zoom out", show=False, id="chart.zoom-out"),
        Binding("escape", "back", "show everything", show=False, id="chart.everything"),
    ]

    class Looked(Message):
        """Another place is read off, or another part is seen."""

        def __init__(self, chart: "Chart") -> None:
            super().__init__()
            self.chart = chart

    _pressed: float | None = None
    """Where the mouse button went down."""

    def action_move(self, by: int, select: int = 0) -> None:
        """The cursor on or back; with `select`, a range from where it was."""
        columns = self._frame.columns if self._frame is not None else 1
        self._look(self.view.moved(self.xs, by, columns, select=bool(select)))

    def action_end(self, last: int) -> None:
        """The first or the last value that is seen."""
        self._look(self.view.at(self.xs, self.view.ends(self.xs)[last]))

    def action_zoom_in(self) -> None:
        """The selected range, else half of what is seen."""
        selected = self.view.selected
        self._look(self.view.within(self.xs, *selected) if selected else self.view.zoomed(self.xs, 0.5))

    def action_zoom_out(self) -> None:
        """Twice what is seen."""
        self._look(self.view.zoomed(self.xs, 2.0))

    def action_zoom_selected(self) -> None:
        """The selected range; without one, the key belongs to what is around the chart."""
        if self.view.selected is None:
            raise SkipAction
        self.action_zoom_in()

    def action_back(self) -> None:
        """Undo the selection, the zoom and the cursor, one a press; then the key belongs to what is around."""
        view = self.view.back()
        if view is None:
            raise SkipAction
        self._look(view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without values there is nothing to read."""
        return action not in ("move", "end", "zoom_in", "zoom_out") or len(self.xs) > 0

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A range starts here."""
        self._pressed = self._place(event)
        if self._pressed is not None:
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Read off what is under the mouse; select while it is dragged."""
        self._hover = place = self._place(event)
        if self._pressed is not None and place is not None:
            anchor = View().at(self.xs, self._pressed).cursor
            self._look(View(View().at(self.xs, place).cursor, self.view.window, anchor))
        self.refresh()

    def on_mouse_up(self) -> None:
        """Zoom into the range that was dragged; a click leaves the cursor there."""
        place, self._pressed = self._pressed, None
        if place is None:
            return
        self.release_mouse()
        if self.view.selected is not None:
            self.action_zoom_in()
        else:
            self._look(View(View().at(self.xs, place).cursor, self.view.window))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in where the mouse is."""
        self._wheel(event, 0.5)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out."""
        self._wheel(event, 2.0)

    def on_leave(self) -> None:
        """Read the cursor off again."""
        self._hover = None
        self.refresh()

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        place = self._place(event)
        if place is not None:
            event.stop()
            zoomed = View(place, self.view.window).zoomed(self.xs, factor)
            self._look(View(self.view.cursor, zoomed.window))

    def _look(self, view: View) -> None:
        if view != self.view:
            self.look(view)
            self.post_message(self.Looked(self))

    def _place(self, event: events.MouseEvent) -> float | None:
        """The place under the mouse; None beside the curves."""
        frame, column = self._frame, event.x - self._scale
        return frame.place(column) if frame is not None and 0 <= column < frame.columns else None

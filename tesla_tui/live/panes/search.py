"""A tab that is a table with a search line."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Input

from tesla_tui.live.context import Context
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.widgets.field import Field


class SearchPane(Pane):
    """Typing filters the table; enter returns to it. Escape clears the search, then returns."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave_search", show=False)]

    def __init__(self, context: Context, id: str) -> None:  # noqa: A002
        super().__init__(context, id=id)
        self._wanted = ""

    def focus_first(self) -> None:
        """The table."""
        self.query_one(DataTable).focus()

    def action_search(self) -> None:
        """Type words."""
        self.query_one(Field).focus()

    def action_leave_search(self) -> None:
        """Back to the lines; from there, all of them."""
        field = self.query_one(Field)
        if field.has_focus:
            self.focus_first()
        else:
            field.value = ""

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter while typing."""
        self._wanted = message.value
        self.update_view()

    def on_input_submitted(self) -> None:
        """Back to the lines."""
        self.focus_first()

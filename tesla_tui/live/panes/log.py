"""Tab 5: what happened, searchable."""

import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Static

from tesla_tui.live.context import Context
from tesla_tui.live.panes.search import SearchPane
from tesla_tui.live.widgets.field import Field
from tesla_tui.watch.log import LEVELS, LogLine

SHOWN = 300
"""Newest matching lines in the table."""
SIGNS = {"info": " ", "warning": "!", "error": "✕"}


def today_is() -> str:
    """The date of this moment, as YYYYMMDD: lines of another day show it."""
    return time.strftime("%Y%m%d")


class LogPane(SearchPane):
    """The run's events as lines, newest last; filtered by words and level."""

    HELP = """
Every event in the run's journal except single iterations, which are charted. `/` searches for lines with all the given
words. `v` changes the level: everything, warnings and errors, errors only. A line that does not fit is shown in full
below the table when the cursor is on it.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", key_display="/", id="log.search"),
        Binding("v", "level", "level", id="log.level"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="log")
        self._level = 0
        self._drawn: tuple[object, ...] = ()
        self._last: LogLine | None = None

    def compose(self) -> ComposeResult:
        """Search, words, table, the line under the cursor."""
        with Horizontal(classes="search-line"):
            yield Field(placeholder="/ to search, enter to finish", id="log-search")
            yield Static(id="log-words")
        yield DataTable(id="log-table", cursor_type="row")
        yield Static(id="log-line")

    def on_mount(self) -> None:
        """The table's head."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in ("time", "", "event", "what"):
            table.add_column(name, key=name or "level")

    def on_data_table_row_highlighted(self) -> None:
        """The cursor moved."""
        self._in_full()

    def on_resize(self) -> None:
        """Other lines fit."""
        self.call_after_refresh(self._in_full)

    def run_changed(self) -> None:
        """Another journal."""
        self._drawn, self._last = (), None
        self.query_one(DataTable).clear()

    def action_level(self) -> None:
        """The next level."""
        self._level = (self._level + 1) % len(LEVELS)
        self.update_view()

    def update_view(self) -> None:
        """New lines; all of them when the filter changed."""
        feed = self.context.feed
        lines = list(feed.view.log) if feed is not None else []
        level = LEVELS[self._level]
        filtered = (self._wanted, level, self.app.theme)
        table: DataTable[Text] = self.query_one(DataTable)
        if filtered != self._drawn:
            table.clear()
            self._drawn, self._last = filtered, None
        new = lines
        if self._last is not None:
            seen = next((n for n in range(len(lines) - 1, -1, -1) if lines[n] is self._last), -1)
            new = lines[seen + 1 :]
        matching = [line for line in new if line.matches(self._wanted, level)][-SHOWN:]
        at_end = table.cursor_row >= table.row_count - 1
        for line in matching:
            table.add_row(*self._cells(line))
        while table.row_count > SHOWN:
            table.remove_row(next(iter(table.rows)))
        if lines:
            self._last = lines[-1]
        if matching and at_end:
            table.move_cursor(row=table.row_count - 1, animate=False)
        self._in_full()
        words = {"info": "all levels", "warning": "warnings and errors", "error": "errors only"}[level]
        self.query_one("#log-words", Static).update(f"{table.row_count} lines · {words}", layout=False)

    def _in_full(self) -> None:
        """The line under the cursor, if the table has no room for it."""
        table: DataTable[Text] = self.query_one(DataTable)
        row = table.get_row_at(table.cursor_row) if table.is_valid_row_index(table.cursor_row) else [Text()]
        columns = table.ordered_columns[:-1]
        room = table.size.width - sum(column.get_render_width(table) for column in columns) - 2 * table.cell_padding
        line = self.query_one("#log-line", Static)
        line.display = row[-1].cell_len > room
        line.update(row[-1])

    def _cells(self, line: LogLine) -> tuple[Text, Text, Text, Text]:
        colours = self.app.theme_variables
        colour = {"info": colours["quiet"], "warning": colours["warning"], "error": colours["error"]}[line.level]
        moment = time.localtime(line.time)
        today = time.strftime("%Y%m%d", moment) == today_is()
        when = time.strftime("%H:%M:%S" if today else "%m-%d %H:%M", moment)
        style = "" if line.level == "info" else colour
        return (
            Text(when, style=colours["quiet"]),
            Text(SIGNS[line.level], style=colour),
            Text(line.kind, style=colours["primary"]),
            Text(line.text, style=style),
        )

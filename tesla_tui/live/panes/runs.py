"""Tab 4: all runs of the workspace side by side."""

import threading
import time
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.message import Message
from textual.widgets import DataTable, Static

from engine.events import EvaluationDone
from tesla_tui.live.context import Context
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.setting_words import value_words
from tesla_tui.live.themes import LINES
from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.header import STATES
from tesla_tui.render.words import clean, counted, duration, percent, plus_minus
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.series import smoothed

EMPTY = "No runs yet. Press n to start one."
COLUMNS = ("", "run", "state", "iteration", "loss", "held out %", "test %", "random %", "time", "differs in")
TREND = 33
"""Buckets of a loss that its trend averages."""
LOOK_EVERY = 2.0
"""Seconds between two looks at the other runs."""
IGNORED = ("compute.", "distill.checkpoint_every", "distill.keep")
"""Settings that do not change the experiment."""


class RunsPane(Pane):
    """A line for each run, their losses overlaid."""

    HELP = """
Every run of this workspace with its progress, results and the settings that differ. The curves are the trends of the
matching losses. `enter` opens the run under the cursor, `n` starts a new one, `o` shows or hides a curve.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="runs.open", priority=False),
        Binding("o", "overlay", "toggle curve", id="runs.overlay"),
        Binding("l", "toggle_log", "log scale", id="runs.log"),
    ]

    class Opened(Message):
        """A run was chosen."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="runs")
        self._feeds: dict[str, RunFeed] = {}
        self._hidden: set[str] = set()
        self._names: list[str] = []
        self._log = context.preferences.log_scale
        self._looked = 0.0
        self._cells: list[list[str]] = []
        self._reading = threading.Lock()
        """Held while feeds are read in their thread, and while they are drawn."""

    def compose(self) -> ComposeResult:
        """Words, table, chart."""
        yield Static(id="runs-summary")
        yield DataTable(id="runs-table", cursor_type="row")
        yield Chart("matching loss of all runs", id="runs-loss", empty="no iterations yet")

    def on_mount(self) -> None:
        """The table's head."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in COLUMNS:
            table.add_column(name, key=name or "colour")

    def focus_first(self) -> None:
        """The table."""
        self.query_one(DataTable).focus()

    def action_toggle_log(self) -> None:
        """Logarithmic, or not."""
        self._log = not self._log
        self._draw()

    def action_overlay(self) -> None:
        """The curve under the cursor, or not."""
        row = self.query_one(DataTable).cursor_row
        if row < len(self._names):
            self._hidden ^= {self._names[row]}
            self._draw()

    def on_data_table_row_selected(self, message: DataTable.RowSelected) -> None:
        """Enter or a click on a line."""
        if message.cursor_row < len(self._names):
            self.post_message(self.Opened(self._names[message.cursor_row]))

    def action_open(self) -> None:
        """The run under the cursor."""
        row = self.query_one(DataTable).cursor_row
        if row < len(self._names):
            self.post_message(self.Opened(self._names[row]))

    def look_around(self) -> None:
        """Other runs change by themselves."""
        self.update_view()

    def update_view(self) -> None:
        """Look at all runs, in a thread: some have long journals."""
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            self._look()

    @work(thread=True, exclusive=True, group="runs")
    def _look(self) -> None:
        feeds = dict(self._feeds)
        runs = self.context.workspace.runs()
        for run in runs:
            if run.name not in feeds:
                feeds[run.name] = RunFeed(run)
            with self._reading:
                feeds[run.name].catch_up()
        names = {run.name for run in runs}
        self.app.call_from_thread(self._found, {name: feed for name, feed in feeds.items() if name in names})

    def _found(self, feeds: dict[str, RunFeed]) -> None:
        self._feeds = feeds
        self._draw()

    def _draw(self) -> None:
        with self._reading:
            self._draw_now()

    def _draw_now(self) -> None:
        self._names = sorted(self._feeds)
        differing = _differences([self._feeds[name].view.settings for name in self._names])
        self._show_rows([self._row(number, words) for number, words in enumerate(differing)])
        chart = self.query_one("#runs-loss", Chart)
        chart.display = bool(self._names)
        chart.show(self._curves(), notes=("log" if self._log else "", "trend"), logarithmic=self._log)
        words = f"{counted(len(self._names), 'run')} in {clean(str(self.context.workspace.folder))}"
        text = Text(words if self._names else EMPTY, style=self.app.theme_variables["quiet"])
        self.query_one("#runs-summary", Static).update(text, layout=False)

    def _row(self, number: int, differing: str) -> list[Text]:
        """The cells of a run, one for each of `COLUMNS`."""
        name, colours = self._names[number], self.app.theme_variables
        feed = self._feeds[name]
        view = feed.view
        sign, state_colour = STATES.get(feed.state, STATES["stopped"])
        best, tests = view.best(), view.tests()
        distilled = next((r for r in reversed(tests) if r.subject == "distilled"), None)
        random = next((r for r in tests if r.subject == "random"), None)
        current = self.context.feed is not None and self.context.feed.run.name == name
        spent = view.driven_seconds(time.time() if feed.live else None)
        loss = "" if view.loss.latest is None else f"{smoothed(view.loss.points().mean, TREND)[-1]:.3f}"
        return [
            Text("  " if name in self._hidden else "━━", style=_colour(number)),
            Text(name, style="bold" if current else ""),
            Text(f"{sign} {feed.state}", style=colours[state_colour]),
            Text(f"{view.iteration}/{view.iterations}", justify="right"),
            Text(loss, justify="right"),
            Text("" if best is None else percent(best.mean), justify="right"),
            _accuracy(distilled),
            _accuracy(random),
            Text("" if spent is None else duration(spent), justify="right"),
            Text(differing, style=colours["quiet"]),
        ]

    def _curves(self) -> list[Line]:
        """The trends of the losses that are not hidden."""
        lines = []
        for number, name in enumerate(self._names):
            loss = self._feeds[name].view.loss
            if name not in self._hidden and len(loss):
                points = loss.points()
                lines.append(Line.through(points.x, smoothed(points.mean, TREND), _colour(number)))
        return lines

    def _show_rows(self, rows: list[list[Text]]) -> None:
        """Update the cells that changed; refill the table if runs were added or removed."""
        table: DataTable[Text] = self.query_one(DataTable)
        plain = [[f"{cell.plain}/{cell.style}" for cell in row] for row in rows]
        if len(plain) == len(self._cells):
            for number, (row, old) in enumerate(zip(plain, self._cells, strict=True)):
                for column, (cell, was) in enumerate(zip(row, old, strict=True)):
                    if cell != was:
                        table.update_cell_at(Coordinate(number, column), rows[number][column], update_width=True)
        else:
            at = table.cursor_row
            table.clear()
            for cells in rows:
                table.add_row(*cells)
            table.move_cursor(row=at, animate=False)
        self._cells = plain
        table.display = bool(rows)


def _colour(number: int) -> str:
    return LINES[number % len(LINES)]


def _accuracy(result: EvaluationDone | None) -> Text:
    return Text("" if result is None else plus_minus(result.mean, result.std, len(result.accuracies)))


def _differences(settings: list[dict[str, Any]]) -> list[str]:
    """For each run the settings in which it differs from another, as text."""
    keys = sorted({key for one in settings for key in one if not key.startswith(IGNORED)})
    differing = [key for key in keys if len({repr(one.get(key)) for one in settings if one}) > 1]
    found = []
    for one in settings:
        parts = [f"{key.rpartition('.')[2]}={value_words(one[key])}" for key in differing if key in one]
        found.append("  ".join(parts))
    return found

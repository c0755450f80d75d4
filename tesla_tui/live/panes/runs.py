"""Tab 4: all runs of the workspace side by side."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import DataTable, Input, Static

from engine.errors import UnreadableFileError, counted
from engine.events import EvaluationDone
from tesla_tui.live.context import Context
from tesla_tui.live.dialogs.compare import CompareScreen
from tesla_tui.live.panes.search import SearchPane
from tesla_tui.live.setting_words import value_words
from tesla_tui.live.themes import LINES
from tesla_tui.live.widgets.field import Field
from tesla_tui.live.widgets.header import STATES
from tesla_tui.live.widgets.runs_chart import RunsChart
from tesla_tui.live.widgets.runs_table import Row, RunsTable, wrapped
from tesla_tui.render.words import accuracy_of, duration, percent
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.runs import (
    SORTS,
    RunFacts,
    differing,
    facts_of,
    matching,
    natural,
    ordered,
    setting,
    setting_names,
)  # fmt: skip

EMPTY = "No runs yet. Press n to start one."
NO_MATCH = "No run matches the filter."
LOOK_EVERY = 2.0
"""Seconds between two looks at the other runs."""


class RunsPane(SearchPane):
    """A line for each run, their accuracies or losses overlaid."""

    HELP = """
Every run of this workspace with its progress, results and the settings that differ. `/` filters by words in a run's
name, state and differing settings (`steps=10`), `<` and `>` sort by another column, `r` the other way round.

The curves are held-out accuracies, which compare; `v` shows the matching losses, which compare only between runs with
the same teachers and the same `distill.steps`. `o` shows or hides the curve under the cursor. `tab` goes to the chart:
arrows read values, `+` and `-` zoom, `shift` with arrows selects a range and `enter` zooms into it.

`enter` opens the run under the cursor, `c` shows its images next to those of the open run.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="runs.open", priority=False),
        Binding("c", "compare", "compare", id="runs.compare"),
        Binding("slash", "search", "filter", key_display="/", id="runs.filter"),
        Binding("greater_than_sign", "sort(1)", "sort by", key_display="< >", id="runs.sort"),
        Binding("less_than_sign", "sort(-1)", "sort back", show=False, id="runs.sort-back"),
        Binding("r", "reverse", "reverse", show=False, id="runs.reverse"),
        Binding("v", "curves", "curves", id="runs.curves"),
        Binding("o", "overlay", "toggle curve", id="runs.overlay"),
        Binding("l", "toggle_log", "log scale", show=False, id="runs.log"),
        Binding("m", "smooth", "smoothing", show=False, id="runs.smoothing"),
        Binding("z", "enlarge", "enlarge chart", show=False, id="runs.zoom"),
    ]

    class Opened(Message):
        """A run was chosen."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="runs")
        self._feeds: dict[str, RunFeed] = {}
        self._facts: list[RunFacts] = []
        """The runs that are shown, in order."""
        self._colours: dict[str, str] = {}
        """Of the runs; they keep them."""
        self._hidden: set[str] = set()
        self._sort, self._reverse = "run", False
        self._losses = False
        self._log = context.preferences.log_scale
        self._looked = 0.0
        self._reading = threading.Lock()
        """Held while feeds are read in their thread, and while they are drawn."""

    def compose(self) -> ComposeResult:
        """Filter, table, what differs, chart."""
        with Horizontal(classes="search-line"):
            yield Field(placeholder="/ to filter, enter to finish", id="runs-search")
            yield Static(id="runs-words")
        yield Static(EMPTY, id="runs-empty", classes="quiet")
        yield RunsTable(id="runs-table")
        with VerticalScroll(id="runs-differs", can_focus=False):
            yield Static()
        yield RunsChart(id="runs-chart")

    # --- what keys do

    def action_toggle_log(self) -> None:
        """The losses on a logarithmic scale, or not."""
        self._log = not self._log
        self._draw()

    def action_smooth(self) -> None:
        """The next degree of smoothing."""
        self.context.smooth_more()
        self._draw()

    def action_curves(self) -> None:
        """Accuracies or losses."""
        self._losses = not self._losses
        self._draw()

    def action_overlay(self) -> None:
        """The curve under the cursor, or not."""
        if name := self.query_one(RunsTable).chosen:
            self._hidden ^= {name}
            self._draw()

    def action_sort(self, by: int) -> None:
        """By the next column, or by the one before."""
        names = list(SORTS)
        self._sort, self._reverse = names[(names.index(self._sort) + by) % len(names)], False
        self._draw()

    def action_reverse(self) -> None:
        """The other way round."""
        self._reverse = not self._reverse
        self._draw()

    def action_compare(self) -> None:
        """The images of the open run and of the one under the cursor, or of the next one."""
        names = [facts.name for facts in self._facts]
        here, feed = self.query_one(RunsTable).chosen, self.context.feed
        if len(self._feeds) < 2 or here is None:
            few = "There is only one run to look at. Press n to start another." if names else NO_MATCH
            self.notify(few if self._feeds else EMPTY, severity="warning")
            return
        others = [name for name in (*names[names.index(here) + 1 :], *names, *self._feeds) if name != here]
        open_run = feed.run.name if feed is not None else here
        left, right = (open_run, here) if open_run != here and open_run in self._feeds else (here, others[0])
        listed = dict.fromkeys((*names, left, right))
        self.app.push_screen(CompareScreen([self._feeds[name] for name in listed], left, right, self._reading))

    def action_open(self) -> None:
        """The run under the cursor."""
        if name := self.query_one(RunsTable).chosen:
            self.post_message(self.Opened(name))

    def on_data_table_row_selected(self) -> None:
        """Enter or a click on a line."""
        self.action_open()

    def on_data_table_row_highlighted(self) -> None:
        """Another run: what differs in it, and its curve in front."""
        self._draw()

    def on_data_table_header_selected(self, message: DataTable.HeaderSelected) -> None:
        """A click on a heading sorts; another one, the other way round."""
        name = message.column_key.value or ""
        if name in SORTS:
            self._reverse = name == self._sort and not self._reverse
            self._sort = name
            self._draw()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter while typing."""
        self._wanted = message.value
        self._draw()

    def on_resize(self) -> None:
        """Other columns."""
        self.call_after_refresh(self._draw)

    # --- reading

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
        try:
            runs = self.context.workspace.runs()
        except UnreadableFileError:  # perhaps next time
            return
        for run in runs:
            if run.name not in feeds:
                feeds[run.name] = RunFeed(run)
            with self._reading, suppress(UnreadableFileError):
                feeds[run.name].catch_up()
        names = {run.name for run in runs}
        self.app.call_from_thread(self._found, {name: feed for name, feed in feeds.items() if name in names})

    def _found(self, feeds: dict[str, RunFeed]) -> None:
        self._feeds = feeds
        for name in sorted(feeds, key=natural):
            self._colours.setdefault(name, LINES[len(self._colours) % len(LINES)])
        self._draw()

    # --- drawing

    def _draw(self) -> None:
        with self._reading:
            self._draw_now()

    def _draw_now(self) -> None:
        now = time.time()
        runs = [facts_of(feed, now) for feed in self._feeds.values()]
        keys = differing(runs)
        names = setting_names(keys)
        differs = {
            run.name: [f"{names[key]}={value_words(setting(run.settings, key))}" for key in keys]
            for run in runs if run.settings
        }  # fmt: skip
        texts = {name: " ".join((*parts, *keys)) for name, parts in differs.items()}
        self._facts = ordered(matching(runs, texts, self._wanted), self._sort, reverse=self._reverse)
        table = self.query_one(RunsTable)
        rows = [Row(facts.name, self._cells(facts), differs.get(facts.name, [])) for facts in self._facts]
        table.show(rows, self._sort, descending=SORTS[self._sort][1] != self._reverse)
        self._words(len(runs))
        self._differs(differs)
        self._chart(keys)

    def _words(self, number: int) -> None:
        """How many there are, and how many are shown."""
        words = counted(number, "run")
        words = f"{len(self._facts)} of {words}" if len(self._facts) < number else words
        by = "name" if self._sort == "run" else self._sort.removesuffix(" %")
        self.query_one("#runs-words", Static).update(f"{words}, by {by}", layout=False)
        self.query_one("#runs-empty").display = not number

    def _differs(self, differs: dict[str, list[str]]) -> None:
        """What differs in the run under the cursor, where the table has no room for it."""
        table, box = self.query_one(RunsTable), self.query_one("#runs-differs")
        name = table.chosen
        parts = differs.get(name or "", [])
        box.display = bool(name and parts) and not table.tells_differences
        if box.display and name:
            lines = wrapped([name, *parts], self.size.width - 3)
            text = Text("\n".join(lines), style=self.app.theme_variables["foreground"])
            text.stylize(f"bold {self._colours[name]}", 0, len(name))
            box.query_one(Static).update(text)

    def _cells(self, facts: RunFacts) -> dict[str, Text]:
        """The cells of a run by column."""
        name, colours = facts.name, self.app.theme_variables
        sign, state_colour = STATES.get(facts.state, STATES["stopped"])
        current = self.context.feed is not None and self.context.feed.run.name == name
        return {
            "colour": Text("  " if name in self._hidden else "━━", style=self._colours[name]),
            "run": Text(name, style="bold" if current else ""),
            "state": Text(f"{sign} {facts.state}", style=colours[state_colour]),
            "iteration": Text(
                f"{facts.iteration}/{facts.iterations}" if facts.iterations else f"{facts.iteration or ''}",
                justify="right",
            ),
            "held out %": Text("" if facts.held_out is None else percent(facts.held_out.mean), justify="right"),
            "test %": _accuracy(facts.test),
            "random %": _accuracy(facts.random),
            "time": Text("" if facts.seconds is None else duration(facts.seconds), justify="right"),
            "differs in": Text(style=colours["quiet"]),
        }

    def _chart(self, keys: Sequence[str]) -> None:
        chart = self.query_one(RunsChart)
        chart.display = bool(self._feeds)
        shown = {facts.name: self._colours[facts.name] for facts in self._facts if facts.name not in self._hidden}
        views = {name: self._feeds[name].view for name in shown}
        chart.front = self.query_one(RunsTable).chosen
        chart.found = bool(self._facts)
        if self._losses:
            chart.show_losses(views, shown, keys, self.context, logarithmic=self._log)
        else:
            chart.show_accuracies(views, shown, keys)


def _accuracy(result: EvaluationDone | None) -> Text:
    words = "" if result is None else accuracy_of(result)
    return Text(words, justify="right")

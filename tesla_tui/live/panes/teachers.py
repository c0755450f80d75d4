"""Tab 3: the teacher trajectories, including those trained by other processes."""

import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Static

from engine.runs.judgement import near_guessing
from engine.settings import method_traits
from engine.storage.filesystem import format_bytes
from tesla_tui.live.context import Context
from tesla_tui.live.curves import points_of, with_trend
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.widgets.bars import bar, strip
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.render.eta import Clock
from tesla_tui.render.words import duration
from tesla_tui.watch.teachers import BufferReader, Trajectory

EMPTY = "No teachers planned yet. They are the first stage of a run. Press space to start it, n for a new run."
NONE = "This run has distill.method = {method}, which trains no teachers."
COLUMNS = ("teacher", "progress", "epochs", "loss", "accuracy", "accuracy by epoch", "disk")
FEW = 30
"""Epochs below which each is marked."""
READ_EVERY = 1.0
"""Seconds between two looks at the buffer's folder: it may hold hundreds of files."""


class TeachersPane(Pane):
    """A line for each trajectory, and the curves of the one under the cursor."""

    HELP = """
A teacher is a network trained on the real images. Distillation matches its parameters after every epoch. Each line is
one trajectory, including those trained by other processes and hosts. The curves below are of the selected line; `tab`
goes to them, where arrows read values and `+` zooms.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "toggle_log", "log scale", id="teachers.log"),
        Binding("m", "smooth", "smoothing", id="teachers.smoothing"),
        Binding("z", "enlarge", "enlarge chart", show=False, id="teachers.zoom"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="teachers")
        self._reader: BufferReader | None = None
        self._read_at = 0.0
        self._there: dict[int, Trajectory] = {}
        self._clock = Clock()
        self._log = context.preferences.log_scale
        self._rows: dict[int, tuple[object, ...]] = {}

    def compose(self) -> ComposeResult:
        """Summary, table, curves."""
        yield Static(id="teachers-summary")
        yield DataTable(id="teachers-table", cursor_type="row", zebra_stripes=False)
        with Horizontal(id="teachers-charts"):
            yield Chart("training loss", unit="epoch", id="teacher-loss", empty="no epochs yet")
            yield Chart("training accuracy", unit="epoch", id="teacher-accuracy", empty="no epochs yet")

    def on_mount(self) -> None:
        """The table's head."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in COLUMNS:
            table.add_column(name, key=name)

    def focus_first(self) -> None:
        """The table."""
        self.query_one(DataTable).focus()

    def action_toggle_log(self) -> None:
        """The loss on a logarithmic scale, or not."""
        self._log = not self._log
        self._curves()

    def action_smooth(self) -> None:
        """The next degree of smoothing."""
        self.context.smooth_more()
        self._curves()

    def run_changed(self) -> None:
        """Another buffer, perhaps."""
        self.see_everything()
        self._reader, self._read_at, self._there, self._clock = None, 0.0, {}, Clock()
        self._rows.clear()
        self.query_one(DataTable).clear()

    def on_data_table_row_highlighted(self) -> None:
        """The cursor moved: its curves."""
        self._curves()

    def update_view(self) -> None:
        """Read the buffer's records and write what changed."""
        feed = self.context.feed
        plan = feed.view.plan if feed is not None else None
        table = self.query_one(DataTable)
        table.display = plan is not None
        self.query_one("#teachers-charts").display = plan is not None
        if feed is None or plan is None:
            method = feed.view.settings.get("distill.method", "tesla") if feed is not None else "tesla"
            words = EMPTY if method_traits(str(method)).teachers else NONE.format(method=method)
            self.query_one("#teachers-summary", Static).update(Text(words, style=self.app.theme_variables["quiet"]))
            return
        now = time.monotonic()
        if self._reader is None or now - self._read_at >= READ_EVERY:
            # By its name alone: what a journal says must not lead elsewhere.
            folder = self.context.workspace.folder / "buffers" / Path(plan.buffer).name
            if self._reader is None or self._reader.folder != folder:
                self._reader = BufferReader(folder)
            self._there = self._reader.read()
            self._read_at = now
        self._table(plan.count, plan.epochs)
        self._summary(plan.count, plan.epochs, plan.bytes)
        self._curves()

    def _table(self, count: int, epochs: int) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        colours = self.app.theme_variables
        beat = self.context.feed.heartbeat if self.context.feed else None
        for number in range(count):
            teacher = self._there.get(number)
            done = float(teacher.epochs) if teacher else 0.0
            # The heartbeat has the epoch that is being trained right now.
            if beat and beat.stage == "teachers" and beat.unit == "epochs" and int(beat.done // epochs) == number:
                done = max(done, beat.done - number * epochs)
            state = (teacher, round(done * 20), self.app.theme)
            if self._rows.get(number) == state:
                continue
            whole = done >= epochs
            colour = colours["success"] if whole else colours["primary"]
            accuracies = teacher.accuracies if teacher else ()
            cells = [
                Text(str(number), justify="right"),
                bar(done / epochs, 12, colour, colours["chart-axis"]),
                Text(f"{int(done)}/{epochs}", justify="right"),
                Text(f"{teacher.losses[-1]:.3f}" if teacher and teacher.losses else "", justify="right"),
                Text(f"{100 * accuracies[-1]:.1f} %" if accuracies else "", justify="right"),
                Text(strip(accuracies, 24, 1.0), style=colours["primary"]),
                Text(format_bytes(teacher.bytes) if teacher else "", justify="right"),
            ]
            if number in self._rows:
                for column, cell in enumerate(cells):
                    table.update_cell_at(Coordinate(number, column), cell)
            else:
                table.add_row(*cells, key=str(number))
            self._rows[number] = state

    def _summary(self, count: int, epochs: int, planned: int) -> None:
        colours = self.app.theme_variables
        feed = self.context.feed
        whole = sum(1 for teacher in self._there.values() if teacher.published and teacher.epochs >= epochs)
        used = sum(teacher.bytes for teacher in self._there.values())
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{whole}/{count} trajectories", style="bold")
        taken, most = format_bytes(used), format_bytes(planned)
        share = taken if taken == most else f"{taken} of {most}"
        text.append(f" of {epochs} epochs · {share} on disk", style=colours["quiet"])
        beat = feed.heartbeat if feed else None
        if feed and feed.state == "running" and beat and beat.stage == "teachers" and beat.total:
            left = self._clock.left(beat.done, beat.total, beat.detail)
            if left is not None:
                text.append(f" · {duration(left)} left", style=colours["accent"])
        accuracies = [teacher.accuracies[-1] for teacher in self._there.values() if teacher.accuracies]
        if accuracies:
            text.append(f" · training accuracy {100 * float(np.mean(accuracies)):.1f} %", style=colours["quiet"])
        measured = feed.view.teachers if feed else None
        if measured is not None and measured.split == "holdout":
            near = near_guessing(measured.mean, measured.guessing, measured.images)
            words = f" · held-out {100 * measured.mean:.1f} %, guessing {100 * measured.guessing:.1f} %"
            text.append(words, style=colours["warning" if near else "quiet"])
        self.query_one("#teachers-summary", Static).update(text, layout=False)

    def _curves(self) -> None:
        table = self.query_one(DataTable)
        teacher = self._there.get(table.cursor_row)
        for name, values, percent in (
            ("#teacher-loss", teacher.losses if teacher else (), False),
            ("#teacher-accuracy", teacher.accuracies if teacher else (), True),
        ):
            y = np.array(values, dtype=float)
            x = np.arange(1, len(y) + 1, dtype=float)
            value = "" if len(y) == 0 else (f"{100 * y[-1]:.1f} %" if percent else f"{y[-1]:.3f}")
            which = "" if teacher is None else f"teacher {teacher.number}"
            logarithmic = self._log and not percent
            lines = with_trend(points_of(x, y), self.context.trend)
            if len(y) < FEW:
                lines[0] = replace(lines[0], points=True)
            self.query_one(name, Chart).show(
                lines, value=value, notes=(which, "log" if logarithmic else "", self.context.trend_note),
                percent=percent, logarithmic=logarithmic,
            )  # fmt: skip

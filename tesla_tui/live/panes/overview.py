"""Tab 1: the run at a glance."""

from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.errors import TeslaError
from engine.events import EvaluationDone
from engine.runs.series import Series
from engine.runs.upper_bound import whole_tests
from tesla_tui.live.context import Context
from tesla_tui.live.curves import with_trend
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.time_line import TimeLine
from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.device_panel import DevicePanel
from tesla_tui.live.widgets.picture_title import iteration_words
from tesla_tui.live.widgets.pictures import PictureGrid, layout_for
from tesla_tui.live.widgets.pixel_grid import picture_grid
from tesla_tui.live.widgets.result import ResultPanel
from tesla_tui.live.widgets.stage import StageStrip
from tesla_tui.live.widgets.status_line import happening
from tesla_tui.render.cells import caption
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.selected import SIGN, Selected, selected_of
from tesla_tui.watch.view import RunView


class OverviewPane(Pane):
    """Charts, results, the machine, and the images as they change."""

    HELP = """
The **matching loss** is the distance from the student to the teacher; 1 means no closer than at the start. It is noisy,
because every iteration draws a different part of a different teacher, so watch the trend.

**Accuracy** is measured on training images held out from the teachers. The dashed line is as many random real images.
`e` measures now. `◆` marks the selected checkpoint, the one with the best held-out accuracy; `b` shows its images.

A **finished run** shows its result: the test accuracy of the selected checkpoint between as many random real images and
the whole dataset (of a run with `distill.method=whole` and the same network, if there is one), and what it took.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "toggle_log", "log scale", id="overview.log"),
        Binding("m", "smooth", "smoothing", id="overview.smoothing"),
        Binding("r", "toggle_raw", "raw values", show=False, id="overview.raw"),
        Binding("z", "enlarge", "enlarge chart", show=False, id="overview.zoom"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="overview")
        self._log = context.preferences.log_scale
        self._raw = True
        self._shown_frame: tuple[object, ...] = ()
        self._line = TimeLine(context)
        self._selected: Selected | None = None
        self._whole: Mapping[str, EvaluationDone] = {}
        """Test accuracies on all training images, where a run beside this one measured them."""
        self._whole_of: tuple[RunFeed, str] | None = None
        """The run and its state when they were looked for."""

    def compose(self) -> ComposeResult:
        """The layout; what does not fit a small terminal is hidden by the style sheet."""
        yield StageStrip()
        with Horizontal(id="overview-top"):
            with Grid(id="charts"):
                yield Chart("matching loss", id="loss", empty="no iterations yet")
                yield Chart("held-out accuracy", id="accuracy", empty="not measured yet")
                yield Chart("student_lr", id="student-lr", empty="no iterations yet")
                yield Chart("gradient norm", id="gradient-norm", empty="no iterations yet")
            with Vertical(id="overview-images"):
                yield Static("synthetic images", id="overview-images-title")
                yield picture_grid(selectable=False, id="overview-grid")
        with Horizontal(id="overview-bottom"):
            yield Static(id="so-far")
            yield ResultPanel(id="results")
            yield DevicePanel()

    def focus_first(self) -> None:
        """The loss chart."""
        self.query_one("#loss").focus()

    def action_toggle_log(self) -> None:
        """The loss on a logarithmic scale, or not."""
        self._log = not self._log
        self.update_view()

    def action_smooth(self) -> None:
        """The next degree of smoothing."""
        self.context.smooth_more()
        self.update_view()

    def action_toggle_raw(self) -> None:
        """Show or hide the single values behind the trend."""
        self._raw = not self._raw
        self.update_view()

    def run_changed(self) -> None:
        """Forget the frame."""
        self._shown_frame, self._whole = (), {}
        self.see_everything()
        self.query_one("#overview-grid", PictureGrid).show(
            np.zeros((0, 1, 1, 1), dtype=np.uint8), (), layout_for(0, 8, self.size), 0
        )

    def on_show(self) -> None:
        """The run on the whole dataset may have finished meanwhile."""
        self._look_for_whole()

    @work(thread=True, exclusive=True, group="whole")
    def _look_for_whole(self) -> None:
        feed = self.context.feed
        found: Mapping[str, EvaluationDone] = {}
        if feed is not None:
            with suppress(TeslaError, OSError):  # without it, "not measured" is said
                found = whole_tests(self.context.workspace, feed.run)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._found_whole, feed, found)

    def _found_whole(self, feed: RunFeed | None, whole: Mapping[str, EvaluationDone]) -> None:
        if feed is self.context.feed and whole != self._whole:
            self._whole = whole
            self.update_view()

    def on_picture_grid_resized(self) -> None:
        """Lay the images out again."""
        self._pictures()

    def update_view(self) -> None:
        """Everything, from the run's files."""
        self.query_one(StageStrip).show(self.context)
        feed = self.context.feed
        view = feed.view if feed is not None else RunView()
        self._selected = selected_of(feed)
        if feed is not None and (feed, feed.state) != self._whole_of:
            self._whole_of = feed, feed.state
            self._look_for_whole()
        self._series("#loss", view.loss, self._log)
        self._series("#student-lr", view.student_lr, False)
        self._series("#gradient-norm", view.gradient_norm, self._log)
        self._accuracy(view)
        self._results(view)
        self._pictures()

    def _series(self, chart: str, series: Series, logarithmic: bool) -> None:
        notes = ("log" if logarithmic else "", self.context.trend_note)
        lines = with_trend(series.points(), self.context.trend, raw=self._raw)
        value = "" if series.latest is None else f"{series.latest:.4g}"
        self.query_one(chart, Chart).show(
            lines, value=value, notes=notes, logarithmic=logarithmic, growing=self._growing(),
            meanwhile=self._meanwhile(), mark=self._mark(),
        )  # fmt: skip

    def _meanwhile(self) -> str:
        """What a run that has no iterations yet is doing."""
        waits = self._growing() or self.context.driving
        return happening(self.context).text if waits else ""

    def _growing(self) -> bool:
        return self.context.feed is not None and self.context.feed.live

    def _mark(self) -> float | None:
        """Where curves have the sign of the selected checkpoint: once something was measured to select it by."""
        selected = self._selected
        return None if selected is None or selected.held_out is None else float(selected.iteration)

    def _accuracy(self, view: RunView) -> None:
        results = view.held_out()
        lines = []
        x = np.array([float(result.iteration) for result in results])
        baseline = view.baseline()
        if baseline is not None and len(x):
            right = max(float(x[-1]), float(view.iteration), 1.0)
            lines.append(Line.level(baseline.mean, float(x[0]), right, "chart-second"))
        lines.append(Line.through(x, np.array([result.mean for result in results]), "primary", points=True))
        best = view.best()
        value = "" if best is None else f"{SIGN} {100 * best.mean:.1f} % at {best.iteration}"
        if view.unimproved():
            value = f"not above {100 * results[0].mean:.1f} % at 0"
        note = "" if baseline is None or not len(x) else f"┄ random {100 * baseline.mean:.1f} %"
        holds_out = view.settings.get("dataset.holdout") != 0
        why = "nothing is held out" if not holds_out else "press e" if self._growing() else ""
        self.query_one("#accuracy", Chart).show(
            lines, value=value, notes=(note,), percent=True, growing=self._growing(), meanwhile=why, mark=self._mark()
        )

    def _results(self, view: RunView) -> None:
        feed, panel = self.context.feed, self.query_one(ResultPanel)
        ended = feed is not None and feed.state in ("finished", "imported")
        shown = ended or bool(view.tests())
        self.set_class(ended, "-result")
        self.set_class(ended and view.iterations == 0 and view.loss.latest is None, "-still")  # there are no curves
        panel.display = shown
        self.query_one("#so-far").display = not shown
        if shown:
            panel.show(self.context, self._whole)
        else:
            self.query_one("#so-far", Static).update(self._so_far(view), layout=False)

    def _so_far(self, view: RunView) -> Text:
        """What the test will be, and the gain on the held-out part until then."""
        colours = self.app.theme_variables
        best, baseline = view.best(), view.baseline()
        text = Text("test accuracy\n", style="bold")
        words = "measured once, at the end, on the checkpoint with the best held-out accuracy"
        text.append(words, style=f"not bold {colours['quiet']}")
        if view.unimproved():
            text.append("\nno improvement found so far", style=f"not bold {colours['warning']}")
        elif best is not None and baseline is not None:
            gain = 100 * (best.mean - baseline.mean)
            colour = colours["success" if gain > 0 else "warning"]
            where = "above" if gain >= 0 else "below"
            text.append(f"\nheld out: {abs(gain):.1f} points {where} random", style=f"not bold {colour}")
        return text

    def _pictures(self) -> None:
        grid = self.query_one("#overview-grid", PictureGrid)
        film, feed = self.context.film, self.context.feed
        if film is None or feed is None or grid.size.width < 8:
            return
        frame = self._line.frame()
        if frame is None:
            return
        title = iteration_words(self.context, frame.iteration, self.app.theme_variables, short=True)
        key = (id(frame), grid.size, self.app.theme, title.plain)
        if key == self._shown_frame:
            return
        self._shown_frame = key
        names = [caption(name) for name in feed.view.names]
        captions = [names[n // frame.shown] if names else str(n // frame.shown) for n in range(len(frame.pixels))]
        real = grid.graphics == "pixels"
        layout = layout_for(len(frame.pixels), frame.pixels.shape[1], grid.size, frame.shown, least=6, real=real)
        if layout.per_page < len(frame.pixels):
            hint = f"  {layout.per_page} of {len(frame.pixels)}; all: 2"
            if SIGN in title.plain and title.cell_len + len(hint) > grid.size.width:
                title.truncate(title.plain.index(SIGN) + 1)  # the chart beside it says the rest
            title.append(hint, style=f"not bold {self.app.theme_variables['accent']}")
        self.query_one("#overview-images-title", Static).update(title, layout=False)
        grid.show(frame.pixels, captions, layout, 0)

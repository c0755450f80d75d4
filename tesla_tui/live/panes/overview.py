"""Tab 1: the run at a glance."""

from typing import ClassVar

import numpy as np
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.widgets import Static

from engine.events import EvaluationDone
from engine.runs.judgement import outcomes
from engine.runs.series import Series
from tesla_tui.live.context import Context
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.device_panel import DevicePanel
from tesla_tui.live.widgets.pictures import PictureGrid, layout_for
from tesla_tui.live.widgets.stage import StageStrip
from tesla_tui.render.words import clean, one_line, plus_minus
from tesla_tui.watch.series import smoothed
from tesla_tui.watch.view import RunView

SMOOTHING = (("off", 0), ("low", 9), ("mid", 33), ("high", 129))
"""Names and widths in buckets of at most 1024."""


class OverviewPane(Pane):
    """Charts, results, the machine, and the images as they change."""

    HELP = """
The **matching loss** is the distance from the student to the teacher; 1 means no closer than at the start. It is noisy,
because every iteration draws a different part of a different teacher, so watch the trend.

**Accuracy** is measured on training images held out from the teachers. The dashed line is as many random real images.
`e` measures now.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "toggle_log", "log scale", id="overview.log"),
        Binding("m", "smooth", "smoothing", id="overview.smoothing"),
        Binding("r", "toggle_raw", "raw values", show=False, id="overview.raw"),
        Binding("z", "zoom", "zoom chart", show=False, id="overview.zoom"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="overview")
        self._log = context.preferences.log_scale
        self._smoothing = context.preferences.smoothing
        self._raw = True
        self._shown_frame: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The layout; what does not fit a small terminal is hidden by the style sheet."""
        yield StageStrip()
        with Horizontal(id="overview-top"):
            with Grid(id="charts"):
                yield Chart("matching loss", id="loss", empty="no iterations yet")
                yield Chart("held-out accuracy", id="accuracy", empty="not measured yet: press e")
                yield Chart("student_lr", id="student-lr", empty="no iterations yet")
                yield Chart("gradient norm", id="gradient-norm", empty="no iterations yet")
            with Vertical(id="overview-images"):
                yield Static("synthetic images", id="overview-images-title")
                yield PictureGrid(selectable=False, id="overview-grid")
        with Horizontal(id="overview-bottom"):
            yield Static(id="results")
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
        self._smoothing = (self._smoothing + 1) % len(SMOOTHING)
        self.update_view()

    def action_toggle_raw(self) -> None:
        """Show or hide the single values behind the trend."""
        self._raw = not self._raw
        self.update_view()

    def action_zoom(self) -> None:
        """The focused chart over the whole screen, and back."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif isinstance(self.screen.focused, Chart):
            self.screen.maximize(self.screen.focused)

    def run_changed(self) -> None:
        """Forget the frame."""
        self._shown_frame = ()
        self.query_one("#overview-grid", PictureGrid).show(
            np.zeros((0, 1, 1, 1), dtype=np.uint8), (), layout_for(0, 8, self.size), 0
        )

    def on_picture_grid_resized(self) -> None:
        """Lay the images out again."""
        self._pictures()

    def look_around(self) -> None:
        """The machine."""
        feed = self.context.feed
        pid = feed.driver.pid if feed is not None and feed.live and feed.driver and feed.driver.mine else None
        self.query_one(DevicePanel).show(self.context.devices, pid)

    def update_view(self) -> None:
        """Everything, from the run's files."""
        self.query_one(StageStrip).show(self.context)
        feed = self.context.feed
        view = feed.view if feed is not None else RunView()
        name, width = SMOOTHING[self._smoothing]
        notes = ("log" if self._log else "", f"avg {name}" if self._smoothing else "")
        self._series("#loss", view.loss, width, notes, self._log)
        self._series("#student-lr", view.student_lr, 0, (), False)
        self._series("#gradient-norm", view.gradient_norm, width, notes[:1], self._log)
        self._accuracy(view)
        self.query_one("#results", Static).update(self._results(view), layout=False)
        self._pictures()
        self.look_around()

    def _series(self, chart: str, series: Series, width: int, notes: tuple[str, ...], logarithmic: bool) -> None:
        points = series.points()
        lines = []
        if width and (self._raw or len(points.x) < 3):
            lines.append(Line(points.x, points.low, points.high, "chart-raw"))
        lines.append(Line.through(points.x, smoothed(points.mean, width), "primary"))
        value = "" if series.latest is None else f"{series.latest:.4g}"
        self.query_one(chart, Chart).show(
            lines, value=value, notes=notes, logarithmic=logarithmic, growing=self._growing()
        )

    def _growing(self) -> bool:
        return self.context.feed is not None and self.context.feed.live

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
        value = "" if best is None else f"{'best ' * (best.iteration > 0)}{100 * best.mean:.1f} % at {best.iteration}"
        if view.unimproved():
            value = f"not above {100 * results[0].mean:.1f} % at 0"
        note = "" if baseline is None else f"┄ random {100 * baseline.mean:.1f} %"
        self.query_one("#accuracy", Chart).show(
            lines, value=value, notes=(note,), percent=True, growing=self._growing()
        )

    def _results(self, view: RunView) -> Table | Text:
        colours = self.app.theme_variables
        tests = view.tests()
        if not tests:
            best, baseline = view.best(), view.baseline()
            text = Text("test accuracy\n", style="bold")
            words = "measured once, at the end, on the checkpoint with the best held-out accuracy"
            text.append(words, style=f"not bold {colours['quiet']}")
            if view.unimproved():
                text.append("\nno improvement found so far", style=f"not bold {colours['warning']}")
            elif best is not None and baseline is not None:
                gain = 100 * (best.mean - baseline.mean)
                colour = colours["success" if gain > 0 else "warning"]
                text.append(f"\nheld-out so far: {gain:+.1f} points over random", style=f"not bold {colour}")
            return text
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("test %", no_wrap=True)
        table.add_column("random", justify="right", no_wrap=True)
        table.add_column("distilled", justify="right", no_wrap=True)
        table.add_column("gained", justify="right", no_wrap=True)
        random = {result.network: result for result in tests if result.subject == "random"}
        for result in tests:
            if result.subject == "random":
                continue
            base = random.get(result.network)
            table.add_row(
                Text(clean(result.network)),
                "" if base is None else plus_minus(base.mean, base.std, len(base.accuracies)),
                Text(plus_minus(result.mean, result.std, len(result.accuracies)), style="bold"),
                _gain(result, base, view.unimproved(), colours),
            )
        return table

    def _pictures(self) -> None:
        grid = self.query_one("#overview-grid", PictureGrid)
        film, feed = self.context.film, self.context.feed
        if film is None or feed is None or grid.size.width < 8:
            return
        frame = film.latest()
        if frame is None:
            return
        key = (id(frame), grid.size, self.app.theme)
        if key == self._shown_frame:
            return
        self._shown_frame = key
        title = f"synthetic images  iteration {frame.iteration}"
        self.query_one("#overview-images-title", Static).update(Text(title, style="bold"), layout=False)
        names = [one_line(name) for name in feed.view.names]
        captions = [names[n // frame.shown] if names else str(n // frame.shown) for n in range(len(frame.pixels))]
        layout = layout_for(len(frame.pixels), frame.pixels.shape[1], grid.size, frame.shown, least=6)
        grid.show(frame.pixels, captions, layout, 0)


def _gain(ours: EvaluationDone, base: EvaluationDone | None, unimproved: bool, colours: dict[str, str]) -> Text:
    """The gain in points, in colour where its 95 % interval does not include 0."""
    (gain,) = outcomes([ours], [] if base is None else [base], unimproved=unimproved and ours.iteration == 0)
    if gain.kind == "unimproved":
        return Text("none", style=colours["warning"])
    colour = {"gained": colours["success"], "worse": colours["error"]}.get(gain.kind, "")
    return Text("" if gain.difference is None else f"{100 * gain.difference:+.1f}", style=colour)

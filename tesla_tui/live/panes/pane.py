"""What a tab is to the workbench."""

from textual.containers import Vertical

from tesla_tui.live.context import Context
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.view import View


class Pane(Vertical):
    """A tab. Only the open one is updated."""

    HELP = ""
    """A paragraph for the help of where you are."""

    def __init__(self, context: Context, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.context = context

    def update_view(self) -> None:
        """Draw what is new. Called when the tab opens, at every change of the run, and when another run is opened."""

    def look_around(self) -> None:
        """Draw what changes by itself while the run does not: the machine, other runs. Called at every tick."""

    def run_changed(self) -> None:
        """Another run was opened: forget what was remembered of the last."""

    def focus_first(self) -> None:
        """Put the focus where keys are expected."""
        self.focus()

    def action_enlarge(self) -> None:
        """The focused chart, else the first, over the whole screen; and back."""
        if self.screen.maximized is not None:
            self.screen.minimize()
            self.focus_first()
            return
        focused = self.screen.focused
        charts = [focused] if isinstance(focused, Chart) else [chart for chart in self.query(Chart) if chart.display]
        if charts:
            charts[0].focus()
            self.screen.maximize(charts[0])

    def on_chart_looked(self, message: Chart.Looked) -> None:
        """Charts over the same x show the same part, and read the same place off."""
        for chart in self.query(Chart):
            if chart is not message.chart and chart.unit == message.chart.unit:
                chart.look(message.chart.view)

    def see_everything(self) -> None:
        """Charts without zoom and cursor: another run is shown."""
        for chart in self.query(Chart):
            chart.look(View())

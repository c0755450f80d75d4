"""The curves of several runs over each other."""

from collections.abc import Mapping, Sequence

import numpy as np

from tesla_tui.live.context import Context
from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.render.cells import cut
from tesla_tui.render.words import percent
from tesla_tui.watch.runs import MEASURED
from tesla_tui.watch.series import smoothed
from tesla_tui.watch.view import RunView

ACCURACY, LOSS = "held-out accuracy", "matching loss"
LONGEST = 28
"""Columns of a run's name where values are read off."""


class RunsChart(Chart):
    """Held-out accuracies, which compare, or matching losses. The run in front is drawn last, with its points."""

    front: str | None = None
    """The run under the cursor of the table."""
    found = True
    """Whether any run is in the table."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(ACCURACY, id=id)

    def show_accuracies(
        self, views: Mapping[str, RunView], colours: Mapping[str, str], differing: Sequence[str]
    ) -> None:
        """The accuracies of these runs, random images and the selected checkpoint of the one in front.

        Args:
            views: of the runs by name.
            colours: theirs.
            differing: settings in which runs differ.
        """
        self.title = ACCURACY
        lines, notes, mark = [], [], None
        for name in self._front_last(views):
            results = views[name].held_out()
            x = np.array([float(result.iteration) for result in results])
            y = np.array([result.mean for result in results])
            front = name == self.front
            lines.append(Line.through(x, y, colours[name], points=front, name=cut(name, LONGEST)))
        if self.front in views and self.front is not None:
            view = views[self.front]
            baseline, best = view.baseline(), view.best()
            ends = [x for line in lines for x in line.x.tolist()]
            if baseline is not None and ends:
                notes.append(f"┄ random {percent(baseline.mean)} %")
                lines.insert(0, Line.level(baseline.mean, min(ends), max(*ends, min(ends) + 1), "chart-second"))
            mark = None if best is None else float(best.iteration)
        if any(key.startswith(MEASURED) for key in differing):
            notes.append("measured in different ways")
        self.show(lines, notes=notes, percent=True, mark=mark, empty=self._why("not measured yet: v shows the losses"))

    def show_losses(
        self,
        views: Mapping[str, RunView],
        colours: Mapping[str, str],
        differing: Sequence[str],
        context: Context,
        *,
        logarithmic: bool,
    ) -> None:
        """The trends of the losses of these runs; see `show_accuracies`."""
        self.title = LOSS
        lines = []
        for name in self._front_last(views):
            points = views[name].loss.points()
            trend = smoothed(points.mean, context.trend)
            lines.append(Line.through(points.x, trend, colours[name], name=cut(name, LONGEST)))
        notes = ["log" if logarithmic else "", context.trend_note]
        if "distill.steps" in differing:
            notes.append("those of other distill.steps do not compare")
        self.show(lines, notes=notes, logarithmic=logarithmic, empty=self._why("no iterations yet"))

    def _why(self, words: str) -> str:
        """Why there is no line: these words, or that no run is left."""
        return words if self.found else "no run matches"

    def _front_last(self, views: Mapping[str, RunView]) -> list[str]:
        return sorted(views, key=lambda name: name == self.front)

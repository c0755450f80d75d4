"""Curves of a run as inline SVG: matplotlib draws them, the page's style sheet colours them.

Colours are written as marks that no drawing uses and then replaced by CSS variables, so that one SVG is right in light,
in dark and on paper. Text stays text: it is small, selectable, and in the page's own font.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

from engine.runs.series import Series
from engine.settings.decoders import random_words
from tesla_tui.report.facts import Facts, sound
from tesla_tui.watch.series import Array, smoothed

INK, FAINT, LINE, BASE, GRID = "#010203", "#010204", "#010205", "#010206", "#010207"
VARIABLES = {INK: "--ink", FAINT: "--faint", LINE: "--line", BASE: "--base", GRID: "--grid"}
SIZE = (5.0, 2.7)
"""Inches of 72 points; the page shows a chart at about this size on a phone and on a desk."""
MOST_POINTS = 320
"""Across: more than a chart has points to show."""
SMOOTH = 12
"""The trend of a noisy curve is a mean over one part in this many of it."""
WIDE_RANGE = 30.0
"""Highest over lowest value from which on an axis is logarithmic."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "text.color": INK, "axes.linewidth": 0.8, "xtick.major.width": 0.8,
    "ytick.major.width": 0.8, "grid.color": GRID, "grid.linewidth": 0.7, "path.simplify": True,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A picture with its caption."""

    title: str
    caption: str
    svg: Markup


def charts(facts: Facts) -> list[Chart]:
    """The curves that have data."""
    view = facts.view
    end = max(view.iterations, view.iteration, 1)
    found: list[Chart] = []
    if len(view.loss) > 1:
        found.append(
            Chart(
                "Matching loss",
                "Distance from the student to the teacher's target, relative to its start: below 1 is closer. "
                "Line: moving average; faint: every value, or the range.",
                _drawn("loss", end, lambda axes: _curve(axes, view.loss, "matching loss")),
            )
        )
    if any(map(sound, view.held_out())):
        found.append(
            Chart(
                "Held-out accuracy",
                "New networks on training images that teachers and distillation never saw. The ring marks the "
                "selected checkpoint."
                + (f" Dashed: {random_words(facts.holdout_random.formation)}." if facts.holdout_random else ""),
                _drawn("accuracy", end, lambda axes: _accuracy(axes, facts)),
            )
        )
    if len(view.student_lr) > 1:
        found.append(
            Chart(
                "Student learning rate",
                "The student's step size, learned together with the images.",
                _drawn("lr", end, lambda axes: _curve(axes, view.student_lr, "student_lr")),
            )
        )
    if len(view.gradient_norm) > 1:
        found.append(
            Chart(
                "Gradient norm",
                "Euclidean norm of the matching loss's gradient with respect to all images.",
                _drawn("norm", end, lambda axes: _curve(axes, view.gradient_norm, "‖∂L/∂images‖")),
            )
        )
    return found


def _curve(axes: Axes, series: Series, name: str) -> None:
    points = series.points()
    x, low, high, mean = _fewer(points.x, points.low, points.high, points.mean)
    if np.array_equal(low, high):  # every value has a place of its own
        axes.plot(x, mean, color=LINE, alpha=0.4, linewidth=0.8)
    else:
        axes.fill_between(x, low, high, color=LINE, alpha=0.22, linewidth=0)
    axes.plot(x, smoothed(mean, max(3, len(mean) // SMOOTH)), color=LINE, linewidth=1.7)
    positive = low[low > 0]
    if len(positive) == len(low) and high.max() > WIDE_RANGE * low.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axes.set_ylabel(name)


def _accuracy(axes: Axes, facts: Facts) -> None:
    results = [r for r in facts.view.held_out() if sound(r)]
    x = np.array([r.iteration for r in results])
    mean, std = (100 * np.array([getattr(r, name) for r in results]) for name in ("mean", "std"))
    if facts.holdout_random is not None:
        level = 100 * facts.holdout_random.mean
        axes.axhline(level, color=BASE, linestyle=(0, (4, 3)), linewidth=1.3)
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=LINE, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=LINE, linewidth=1.6, marker="o", markersize=3 if len(x) < 60 else 0)
    if facts.holdout is not None:
        axes.plot(
            [facts.holdout.iteration], [100 * facts.holdout.mean], marker="o", markersize=8, markerfacecolor="none",
            markeredgecolor=INK, markeredgewidth=1.2,
        )  # fmt: skip
    axes.set_ylabel("accuracy, %")


def _fewer(*columns: Array) -> tuple[Array, Array, Array, Array]:
    """Columns x, low, high, mean with neighbours merged, extremes kept."""
    x, low, high, mean = columns
    step = -(-len(x) // MOST_POINTS)
    edges = np.arange(0, len(x), step)
    counts = np.diff(np.append(edges, len(x)))
    return (
        np.add.reduceat(x, edges) / counts,
        np.minimum.reduceat(low, edges),
        np.maximum.reduceat(high, edges),
        np.add.reduceat(mean, edges) / counts,
    )


def _drawn(name: str, end: int, draw: Callable[[Axes], None]) -> Markup:
    """A chart over the iterations 0 to `end`, so that an unfinished run shows how much is missing."""
    style: Any = {**STYLE, "svg.hashsalt": name}
    with rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        draw(axes)
        axes.set_xlabel("iteration")
        axes.set_xlim(-0.02 * end, 1.02 * end)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(length=3)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(file.getvalue(), name)


def _inline(text: str, name: str) -> Markup:
    """An SVG document as an element of a page: colours from its style sheet, names that no other chart has."""
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font-size: \1px; font-family: inherit", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg role="img" \1', svg)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    return Markup(svg)  # numbers and fixed words only: nothing of others is drawn

"""The charts of a study as PNG and SVG. Loads matplotlib."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from engine.storage.atomic import write_bytes
from engine.tools.studies.outcome import Chart, Curve, Outcome

# Okabe and Ito's colours, told apart by all eyes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "oDs^vPX*"
INK, FAINT, GRID = "#222222", "#777777", "#dddddd"
FORMATS = ("png", "svg")


def draw_charts(outcome: Outcome, folder: Path) -> list[Path]:
    """Write every chart of an outcome, `chart-1.png`, `chart-1.svg` and so on; the files' paths."""
    paths = []
    for number, chart in enumerate(outcome.charts, 1):
        figure = _figure(chart, outcome)
        for kind in FORMATS:
            buffer = io.BytesIO()
            # Text stays text, and the same data gives the same bytes.
            with rc_context({"svg.fonttype": "none", "svg.hashsalt": outcome.study}):
                figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
            path = folder / f"chart-{number}.{kind}"
            write_bytes(path, buffer.getvalue(), tidy=True)
            paths.append(path)
    return paths


def _figure(chart: Chart, outcome: Outcome) -> Figure:
    height = max(5.0, 1.5 + 0.22 * len(chart.curves))  # for the legend
    figure = Figure(figsize=(8.4, height), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.suptitle(chart.title, x=0.015, ha="left", fontsize=14, weight="bold", color=INK)
    axes.set_title(_words(outcome, chart), loc="left", fontsize=9, color=FAINT, pad=8)
    if chart.names is None:
        _lines(axes, chart)
    else:
        _bars(axes, chart, chart.names)
    axes.set_xlabel(chart.x_label, fontsize=10.5, color=INK)
    axes.set_ylabel(chart.y_label, fontsize=10.5, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if len(chart.curves) > 1 or (chart.curves and chart.names is None):
        axes.legend(frameon=False, fontsize=9.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _words(outcome: Outcome, chart: Chart) -> str:
    """The setting in a line, and what error bars are."""
    shown = {
        "dataset.name": "{}", "distill.ipc": "IPC {}", "network.name": "{}", "network.width": "width {}",
        "teachers.count": "{} teachers", "distill.iterations": "{} iterations",
    }  # fmt: skip
    values = ((words, outcome.setting.get(key)) for key, words in shown.items())
    said = [words.format(value) for words, value in values if value is not None]
    drawn = any(any(curve.spread or ()) for curve in chart.curves)
    return ", ".join([*said, f"± {chart.spread}"] if chart.spread and drawn else said)


def _scaled(values: Sequence[float], chart: Chart) -> list[float]:
    return [100 * value for value in values] if chart.percent else list(values)


def _lines(axes: Axes, chart: Chart) -> None:
    number = 0
    for curve in chart.curves:
        y = _scaled(curve.y, chart)
        if curve.reference:
            axes.plot(curve.x, y, color=FAINT, linewidth=1.3, linestyle=":", label=curve.label)
            continue
        colour = COLOURS[number % len(COLOURS)]
        few = len(curve.x) <= 30
        marker = MARKERS[number % len(MARKERS)] if few else ""
        axes.plot(curve.x, y, color=colour, linewidth=1.9, marker=marker, markersize=5, label=curve.label)
        if curve.spread is not None and any(curve.spread):
            spread = _scaled(curve.spread, chart)
            low, high = ([v + sign * s for v, s in zip(y, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, linewidth=0)
        number += 1
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_log:
        axes.set_yscale("log")
    elif all(float(x).is_integer() for curve in chart.curves for x in curve.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _bars(axes: Axes, chart: Chart, names: Sequence[str]) -> None:
    groups = [curve for curve in chart.curves if not curve.reference]
    width = 0.8 / max(1, len(groups))
    for number, curve in enumerate(groups):
        places = [x + (number - (len(groups) - 1) / 2) * width for x in curve.x]
        errors = None if curve.spread is None else _scaled(curve.spread, chart)
        bars = axes.bar(
            places, _scaled(curve.y, chart), width=0.92 * width, color=COLOURS[number % len(COLOURS)],
            label=curve.label, yerr=errors, error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )  # fmt: skip
        if len(groups) * len(names) <= 16:
            axes.bar_label(bars, fmt="%.1f" if chart.percent else "%.3g", fontsize=8, padding=2, color=INK)
    for curve in chart.curves:
        if curve.reference:
            _reference(axes, curve, chart)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(bottom=0)


def _reference(axes: Axes, curve: Curve, chart: Chart) -> None:
    axes.plot(curve.x, _scaled(curve.y, chart), color=INK, linewidth=1.2, linestyle=":", label=curve.label)

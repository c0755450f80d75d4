"""The chart of `tesla bench gradient`: memory against T, and time relative to published code. Loads matplotlib."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.storage.atomic import write_bytes
from engine.tools.bench.cases import PUBLISHED, Configuration
from engine.tools.bench.gradient import GradientBench, Row
from tesla_tui.render.bench import ratio_words, short_seconds

# Okabe and Ito's colours, told apart by all eyes; published code is the grey one.
COLOURS = {PUBLISHED: "#555555", "unrolled": "#E69F00", "paper": "#56B4E9", "exact": "#0072B2"}
MARKERS = {PUBLISHED: "s", "unrolled": "^", "paper": "o", "exact": "D"}
WORDS = {
    PUBLISHED: ("published code", "TESLA as published"),
    "unrolled": ("unrolled", "MTT: keeps every step"),
    "paper": ("paper", "TESLA's approximation"),
    "exact": ("exact", "the whole gradient"),
}
"""A name, and what it is."""
INK, FAINT = "#222222", "#777777"
COLUMNS = {"per step": 1.03, "of matmul\npeak": 1.2, "default\nalloc.": 1.38}
"""The columns of figures next to the bars and where they start, in widths of the panel."""


def draw_gradient(bench: GradientBench, title: str, rows: Sequence[Row], where: dict[str, Any], path: Path) -> None:
    """Write the PNG for one shape and precision.

    Args:
        bench: the measurements; there is at least one.
        title: what the rows share.
        rows: of `bench`.
        where: the machine, see `engine.tools.bench.record.machine`.
        path: the file.
    """
    figure = Figure(figsize=(12, 6.2), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    memory, time = figure.subplots(1, 2, width_ratios=(1, 1.1))
    figure.subplots_adjust(left=0.065, right=0.82, top=0.76, bottom=0.17, wspace=0.52)
    figure.text(0.02, 0.94, "What the gradient costs", fontsize=18, weight="bold", color=INK)
    figure.text(0.02, 0.885, f"One iteration of dataset distillation. {title}.", fontsize=11.5, color=INK)
    _memory(memory, bench, [row for row in rows if row.peak_bytes is not None])
    _time(time, bench, rows)
    for axes in (memory, time):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=10)
    figure.text(0.02, 0.03, _footnote(bench, where), fontsize=8.5, color=FAINT)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lstrip(".") or "png")
    write_bytes(path, picture.getvalue(), tidy=True)


def _footnote(bench: GradientBench, where: dict[str, Any]) -> str:
    rounds = f"{bench.rounds} rounds in turns, each configuration in its own process; bars: median, whiskers: quartiles"
    return f"{where['processor']}, {where['threads']} threads, {where['device']}; PyTorch {where['torch']}; {rounds}."


def _memory(axes: Axes, bench: GradientBench, rows: Sequence[Row]) -> None:
    axes.set_title("Peak memory: does it grow with the steps?", fontsize=12.5, loc="left", color=INK, pad=10)
    lines: dict[tuple[str, str, bool, bool], list[Row]] = {}
    for row in rows:
        chosen = row.configuration
        lines.setdefault((chosen.mode, row.label, chosen.compile, bench.is_aside(row)), []).append(row)
    for (mode, label, compiled, aside), points in lines.items():
        points.sort(key=lambda row: row.configuration.steps)
        axes.plot(
            [row.configuration.steps for row in points],
            [(row.peak_bytes or 0) / 1e6 for row in points],
            color=COLOURS[mode],
            linestyle="--" if compiled else ":" if aside else "-",
            marker=MARKERS[mode],
            markerfacecolor="white" if compiled else COLOURS[mode],
            linewidth=3 if mode == PUBLISHED else 2,
            markersize=7,
            label=f"{label}",
        )
    steps = sorted({row.configuration.steps for row in rows})
    axes.set_xticks(steps)
    axes.set_xlabel("matching steps T", fontsize=11, color=INK)
    axes.set_ylabel("MB above images and parameters", fontsize=11, color=INK)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    if lines:
        axes.legend(frameon=False, fontsize=9.5, loc="upper left")


def _time(axes: Axes, bench: GradientBench, rows: Sequence[Row]) -> None:
    timed = [row for row in rows if row.seconds is not None]
    if not timed:
        axes.set_title("Time: nothing was measured", fontsize=12.5, loc="left", color=INK, pad=10)
        axes.set_axis_off()
        return
    steps = max(row.configuration.steps for row in timed)
    bars = [row for row in timed if row.configuration.steps == steps]
    if any(bench.ratio(row) is not None for row in bars):
        bars = [row for row in bars if not bench.is_aside(row)]  # the last column is relative to it
    relative = all(bench.ratio(row) is not None for row in bars)
    words = "Time, in units of published code" if relative else "Time, seconds"
    axes.set_title(f"{words} (T = {steps})", fontsize=12.5, loc="left", color=INK, pad=10)
    longest = 0.0
    for place, row in enumerate(bars):
        seconds = row.seconds
        assert seconds is not None
        unit = seconds.median / (bench.ratio(row) or 1) if relative else 1.0
        value, low, high = seconds.median / unit, seconds.low / unit, seconds.high / unit
        longest = max(longest, high)
        chosen = row.configuration
        axes.barh(
            place, value, height=0.62, color=COLOURS[chosen.mode], alpha=0.55 if _compiled_beside(chosen, bars) else 1,
            xerr=[[value - low], [high - value]], error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
        )  # fmt: skip
        axes.annotate(
            f"{value:.2f}", (high, place), xytext=(7, 0), textcoords="offset points", fontsize=12, weight="bold",
            va="center", color=INK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
        share = bench.share(row)
        cells = (
            short_seconds(seconds.median / steps), "" if share is None else f"{share:.0%}",
            ratio_words(bench.ratio(row, "default")),
        )  # fmt: skip
        for at, words in zip(COLUMNS.values(), cells, strict=True):
            axes.text(at, place, words, transform=axes.get_yaxis_transform(), fontsize=10, va="center", color=INK)
    allocators = any(bench.ratio(row, "default") for row in bars)
    for name, start in list(COLUMNS.items())[: 3 if allocators else 2]:
        axes.text(start, -0.62, name, transform=axes.get_yaxis_transform(), fontsize=9, va="bottom", color=FAINT)
    axes.set_yticks(range(len(bars)), [_tick(row) for row in bars], fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.16)
    if relative:
        axes.axvline(1, color=COLOURS[PUBLISHED], linewidth=1, linestyle=":", zorder=0)
    base = "published code with the same allocator = 1" if allocators else "published code = 1"
    axes.set_xlabel(f"{base}; shorter is faster" if relative else "seconds", fontsize=11, color=INK)


def _compiled_beside(chosen: Configuration, bars: Sequence[Row]) -> bool:
    """Whether this eager mode is next to its compiled variant, and so in the second row."""
    return not chosen.compile and any(
        row.configuration.mode == chosen.mode and row.configuration.compile for row in bars
    )


def _tick(row: Row) -> str:
    chosen = row.configuration
    name, about = WORDS[chosen.mode]
    plain = " (plain)" if chosen.modules == "plain" else ""
    words = name + plain + (" NOT" if row.fell_back else "") + (" compiled" if chosen.compile else "")
    return f"{words}\n{about}"

"""The tables of `tesla bench`."""

from rich.table import Table
from rich.text import Text

from engine.bench.cases import PUBLISHED, Shape
from engine.bench.gradient import GradientBench, Row
from engine.bench.stages import StageBench
from engine.bench.turns import Spread
from tesla_tui.render.words import clean, duration, size


def gradient_tables(bench: GradientBench) -> list[Table]:
    """One table for every shape, a line for every mode and T."""
    shapes = list(dict.fromkeys(row.configuration.shape for row in bench.rows))
    return [_gradient_table(bench, shape) for shape in shapes]


def _gradient_table(bench: GradientBench, shape: Shape) -> Table:
    table = Table(title=f"One iteration: {shape.words}", title_justify="left")
    table.add_column("T", justify="right")
    table.add_column("gradient", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("spread", justify="right", no_wrap=True, style="dim")
    table.add_column("a step", justify="right", no_wrap=True)
    table.add_column("of published", justify="right")
    table.add_column("peak memory", justify="right")
    table.add_column("GFLOP", justify="right", style="dim")
    table.add_column("of matmul peak", justify="right")
    before = None
    for row in bench.rows:
        if row.configuration.shape != shape:
            continue
        steps = row.configuration.steps
        if before not in (None, steps):
            table.add_section()
        before = steps
        style = "yellow" if row.configuration.mode == PUBLISHED else ""
        table.add_row(*_gradient_cells(bench, row), style=style)
    return table


def _gradient_cells(bench: GradientBench, row: Row) -> list[str | Text]:
    steps, seconds = row.configuration.steps, row.seconds
    ratio, share = bench.ratio(row), bench.share(row)
    return [
        str(steps),
        row.configuration.label,
        "" if seconds is None else short_seconds(seconds.median),
        "" if seconds is None else spread_words(seconds),
        "" if seconds is None else short_seconds(seconds.median / steps),
        "" if ratio is None else f"{ratio:.2f}",
        "" if row.peak_bytes is None else size(row.peak_bytes),
        f"{row.flops / 1e9:,.1f}",
        "" if share is None else f"{share:.0%}",
    ]


def gradient_words(bench: GradientBench) -> list[str]:
    """What is said under the tables: how to read them, and what went wrong."""
    lines = [
        "time: median of an iteration; spread: its quartiles. Peak memory: above Python, PyTorch and the images.",
        "GFLOP: what the gradient needs, by convolutions and matrix products; replays and waste do not count.",
    ]
    if bench.peak_flops:
        lines.append(f"Matmul peak: {bench.peak_flops / 1e9:,.0f} GFLOP/s, measured between the others.")
    compiled = [row for row in bench.rows if row.configuration.compile and row.seconds and row.first_seconds]
    if compiled:
        most = max((row.first_seconds or 0) - row.seconds.median for row in compiled if row.seconds)
        lines.append(f"Compiling took up to {duration(most)} (less when its cache on disk knows the shape).")
    for row in bench.rows:
        if row.note:
            lines.append(f"! {row.configuration.label}, T = {row.configuration.steps}: {clean(row.note)}")
    return lines


def stage_table(bench: StageBench) -> Table:
    """A line for the published loop and one or two for ours."""
    table = Table(title=f"{bench.stage}: {bench.problem}", title_justify="left")
    table.add_column("")
    for name in ("images a second", "time", "spread", "of published", "first time", "peak memory"):
        table.add_column(name, justify="right", no_wrap=name != "of published")
    for row in bench.rows:
        answer, ratio, seconds = row.as_json(), bench.ratio(row), row.seconds
        rate, first, peak = row.images_per_second, row.first_seconds, answer["peak_bytes"]
        table.add_row(
            row.label,
            "" if rate is None else f"{rate:,.0f}",
            "" if seconds is None else short_seconds(seconds.median),
            "" if seconds is None else spread_words(seconds),
            "" if ratio is None else f"{ratio:.2f}",
            "" if first is None else short_seconds(first),
            "" if peak is None else size(peak),
            style="yellow" if row.label == PUBLISHED else "",
        )
    return table


def short_seconds(value: float) -> str:
    """12.3 ms, 850 ms, 12.3 s, 3 min 20 s: three digits."""
    if value < 0.9995:
        return f"{_three(1000 * value)} ms"
    return f"{_three(value)} s" if value < 100 else duration(value)


def spread_words(seconds: Spread) -> str:
    """`0.81 .. 0.93`, in the unit of the median; a single measurement has none."""
    if seconds.count < 2:
        return "1 sample"
    unit = 1000 if seconds.median < 0.9995 else 1
    return f"{_three(seconds.low * unit)} .. {_three(seconds.high * unit)}"


def _three(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"

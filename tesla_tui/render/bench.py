"""The tables of `tesla bench`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from engine.runtime.device import resolve_device
from engine.storage.filesystem import format_bytes
from engine.tools.bench.cases import PUBLISHED
from engine.tools.bench.gradient import GradientBench, Row
from engine.tools.bench.stages import StageBench
from engine.tools.bench.switches import policy_words
from engine.tools.bench.turns import Load, Spread
from tesla_tui.render.words import clean, duration

THEIRS = "default\nalloc."
"""Relative to published code as its authors run it, with glibc's default allocator."""
GRADIENT_COLUMNS = (
    "T",
    "gradient",
    "of\npublished",
    THEIRS,
    "time",
    "spread",
    "per step",
    "peak\nmemory",
    "GFLOP",
    "of matmul\npeak",
)
STAGE_COLUMNS = ("", "of\npublished", THEIRS, "images\nper second", "time", "spread", "first\ntime", "peak\nmemory")
DIM = ("spread", "GFLOP")
LESS = ("spread", "per step", "first\ntime", "GFLOP", "of matmul\npeak", THEIRS)
"""Columns dropped in a narrow terminal, first to last, so that no cell wraps."""


def gradient_tables(bench: GradientBench, console: Console) -> list[Table]:
    """One table for every shape and precision, a line for every mode and T, as wide as the terminal allows."""
    return [_gradient_table(bench, title, rows, console) for title, rows in titled_rows(bench).items()]


def titled_rows(bench: GradientBench) -> dict[str, list[Row]]:
    """The rows by what they share: `convnet width 128, ...; float32`."""
    found: dict[str, list[Row]] = {}
    for row in bench.rows:
        chosen = row.configuration
        policy = policy_words(chosen.compute, resolve_device(chosen.compute.device))
        found.setdefault(f"{chosen.shape.words}; {policy}", []).append(row)
    return found


def _gradient_table(bench: GradientBench, title: str, rows: Sequence[Row], console: Console) -> Table:
    cells = [_gradient_cells(bench, row) for row in rows]
    groups = [row.configuration.steps for row in rows]
    styles = ["yellow" if row.configuration.mode == PUBLISHED else "" for row in rows]
    return _fitting(f"One iteration: {title}", GRADIENT_COLUMNS, cells, groups, styles, console)


def _fitting(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    groups: Sequence[int],
    styles: Sequence[str],
    console: Console,
) -> Table:
    """The table with as many columns as fit without breaking a cell; a line between rows of different groups."""
    unlimited = console.options.update(max_width=10_000)
    left_out = 0
    empty = {name for place, name in enumerate(columns) if name == THEIRS and not any(row[place] for row in rows)}
    while True:
        table = Table(title=title, title_justify="left")
        shown = [place for place, name in enumerate(columns) if name not in {*LESS[:left_out], *empty}]
        for place in shown:
            name = columns[place]
            table.add_column(
                name, justify="left" if name in ("", "gradient") else "right", vertical="bottom", no_wrap=True,
                style="dim" if name in DIM else "bold" if name == "of\npublished" else None,
            )  # fmt: skip
        for number, row in enumerate(rows):
            last = groups[number] != groups[min(number + 1, len(rows) - 1)]
            table.add_row(*(row[place] for place in shown), style=styles[number], end_section=last)
        if left_out == len(LESS) or console.measure(table, options=unlimited).maximum <= console.width:
            return table
        left_out += 1


def _gradient_cells(bench: GradientBench, row: Row) -> list[str]:
    steps, seconds = row.configuration.steps, row.seconds
    share = bench.share(row)
    return [
        str(steps),
        row.label,
        ratio_words(bench.ratio(row)),
        ratio_words(bench.ratio(row, "default")),
        "" if seconds is None else short_seconds(seconds.median),
        "" if seconds is None else spread_words(seconds),
        "" if seconds is None else short_seconds(seconds.median / steps),
        "" if row.peak_bytes is None else format_bytes(row.peak_bytes),
        f"{row.flops / 1e9:,.1f}",
        "" if share is None else f"{share:.0%}",
    ]


def ratio_words(ratio: float | None) -> str:
    """`0.42`; empty if it is not known."""
    return "" if ratio is None else f"{ratio:.2f}"


def gradient_words(bench: GradientBench) -> list[str]:
    """What is said under the tables: how to read them, and what went wrong."""
    lines = [
        *_how_it_compares(any(bench.ratio(row, "default") for row in bench.rows)),
        "time: median per iteration; spread: quartiles. Peak memory excludes Python, PyTorch and the images.",
        "GFLOP: convolutions and matrix products that the gradient needs; replayed steps do not count.",
    ]
    for compute in dict.fromkeys(row.configuration.compute for row in bench.rows):
        peak = bench.peak_flops(compute)
        line = "" if peak is None else f"Matmul peak: {peak / 1e9:,.0f} GFLOP/s, measured between rounds."
        lines += [line] if line and line not in lines else []
    lines += _load_words(bench.load)
    if any(row.configuration.modules == "plain" for row in bench.rows):
        lines.append("plain: a ConvNet of nn.GroupNorm, nn.ReLU and nn.AvgPool2d, as in a model of your own.")
    compiled = [row for row in bench.rows if row.configuration.compile and not row.fell_back]
    compiled = [row for row in compiled if row.seconds and row.first_seconds]
    if compiled:
        most = max((row.first_seconds or 0) - row.seconds.median for row in compiled if row.seconds)
        lines.append(f"Compiling took up to {duration(most)} (less if the shape is in the compiler cache).")
    for row in bench.rows:
        if row.note:
            lines.append(f"! {row.configuration.label}, T = {row.configuration.steps}: {clean(row.note)}")
    return lines


def _how_it_compares(allocators: bool) -> list[str]:
    same = "threads, precision, determinism and allocator" if allocators else "threads, precision and determinism"
    lines = [f"of published: time relative to published code with the same {same}."]
    if allocators:
        lines.append("default alloc.: relative to published code with glibc's own allocator, as its authors run it.")
    return lines


def _load_words(load: Load) -> list[str]:
    return [f"Load average while measuring: {load.words}, this benchmark included."] if load.words else []


def stage_table(bench: StageBench, console: Console) -> Table:
    """A line for each published loop and one or two for ours, as wide as the terminal allows."""
    found = []
    for row in bench.rows:
        answer, seconds = row.as_json(), row.seconds
        rate, first, peak = row.images_per_second, row.first_seconds, answer["peak_bytes"]
        found.append([
            row.label,
            ratio_words(bench.ratio(row)),
            ratio_words(bench.ratio(row, "default")),
            "" if rate is None else f"{rate:,.0f}",
            "" if seconds is None else short_seconds(seconds.median),
            "" if seconds is None else spread_words(seconds),
            "" if first is None else short_seconds(first),
            "" if peak is None else format_bytes(peak),
        ])  # fmt: skip
    styles = ["yellow" if row.label.startswith(PUBLISHED) else "" for row in bench.rows]
    return _fitting(f"{bench.stage}: {bench.problem}", STAGE_COLUMNS, found, [0] * len(found), styles, console)


def stage_words(bench: StageBench) -> list[str]:
    """What is said under the table."""
    lines = _how_it_compares(any(bench.ratio(row, "default") for row in bench.rows)) + _load_words(bench.load)
    return lines + [f"! {row.label}: {clean(row.candidate.problem)}" for row in bench.rows if row.candidate.problem]


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

"""The table of `tesla bench gradient` as Markdown, with the machine and the command, for a page or an issue."""

from typing import Any

from engine.storage.filesystem import format_bytes
from engine.tools.bench.gradient import GradientBench, Row
from tesla_tui.render.bench import ratio_words, short_seconds, spread_words, titled_rows

THEIRS = "of published, default allocator"
COLUMNS = ("T", "gradient", "of published", "in CPU time", THEIRS, "time", "n", "peak memory")


def gradient_markdown(bench: GradientBench, where: dict[str, Any], command: str) -> str:
    """A heading and a table for every shape and precision; under them how it was measured.

    Args:
        bench: the measurements.
        where: the machine, see `engine.tools.bench.record.machine`.
        command: what was typed.
    """
    parts = []
    for title, rows in titled_rows(bench).items():
        cells = [_cells(bench, row) for row in rows]
        shown = [name != THEIRS or any(row[place] for row in cells) for place, name in enumerate(COLUMNS)]
        kept = [place for place, keep in enumerate(shown) if keep]
        lines = [[COLUMNS[place] for place in kept], ["---"] * len(kept)]
        lines += [[row[place] for place in kept] for row in cells]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    notes = [f"* `{row.label}`, T = {row.configuration.steps}: {row.note}" for row in bench.rows if row.note]
    if notes:
        parts.append("\n".join(notes))
    device = "" if where["device"] == "cpu" else f"{where['device_name']}, "
    machine = f"{device}{where['processor']}, {where['cores']} cores, threads: {where['threads']}"
    load = f", load average {bench.load.words} with this benchmark" if bench.load.words else ""
    parts.append(f"{machine}, PyTorch {where['torch']}{load}.\nTimes are medians (quartiles).")
    parts.append(f"    {command}")
    return "\n\n".join(parts) + "\n"


def _cells(bench: GradientBench, row: Row) -> list[str]:
    seconds, ratio = row.seconds, bench.ratio(row)
    return [
        str(row.configuration.steps),
        row.label,
        f"**{ratio_words(ratio)}**" if ratio is not None else "",
        ratio_words(bench.ratio(row, cpu=True)),
        ratio_words(bench.ratio(row, "default")),
        "" if seconds is None else f"{short_seconds(seconds.median)} ({spread_words(seconds)})",
        "" if seconds is None else str(seconds.count),
        "" if row.peak_bytes is None else format_bytes(row.peak_bytes),
    ]

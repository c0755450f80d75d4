"""The result of a study: a table, curves, and the notes needed to read them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.tools.studies.statistics import Interval

FORMAT = 1
"""Version of study.json."""


@dataclass(frozen=True)
class Value:
    """A measured number and its spread, if known."""

    mean: float
    std: float | None = None
    """Sample standard deviation (n - 1); None for a single measurement or where none is published."""
    count: int = 1
    """n, measurements: of a run, its networks."""


Cell = str | float | int | Value | Interval | None
"""A text, a number, a value measured in one run, a mean over runs, or nothing."""


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    """Its key in the rows."""
    heading: str
    form: str = "text"
    """`text`, `count`, `number` (four digits), `ratio` (four decimals), `percent` (a share 0..1), `gain` (a
    difference of two shares), or `seconds`."""


@dataclass(frozen=True)
class Table:
    """A second table of an outcome."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]


@dataclass(frozen=True)
class Curve:
    """One line of a chart, or one group of bars."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    """Half the length of the error bars."""
    reference: bool = False
    """Drawn as a faint line for comparison."""


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_log: bool = False
    y_log: bool = False
    names: Sequence[str] | None = None
    """Names of the places 0, 1, ... of the x axis: bars instead of lines."""
    percent: bool = False
    """y is a share 0..1, shown in percent."""
    spread: str = ""
    """What error bars and bands are, as text."""


@dataclass(frozen=True)
class Outcome:
    """The answer of a study."""

    study: str
    title: str
    question: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    """How to read it: what was scaled down, what a column is, where published numbers come from."""
    setting: Mapping[str, Any] = field(default_factory=dict)
    """What all rows share: dataset, network, teachers, iterations, machine."""
    tables: Sequence[Table] = ()
    """Further tables, below the first."""

    def as_json(self) -> dict[str, Any]:
        """Everything, plain."""
        return {"format": FORMAT, **asdict(self)}


def spread_of(value: Value | Interval) -> float | None:
    """What stands behind ±: over the networks of one run their standard deviation, over runs half the interval."""
    return value.std if isinstance(value, Value) else value.half


def percent_words(value: Value | Interval | float) -> str:
    """`72.8 ± 1.6`, or `72.8` where no spread is known."""
    if not isinstance(value, Value | Interval):
        return f"{100 * value:.1f}"
    spread = spread_of(value)
    return f"{100 * value.mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def gain_words(value: Interval | float) -> str:
    """`+1.2`, or with half its interval `+1.2 ± 1.5`."""
    if not isinstance(value, Interval):
        return f"{100 * value:+.1f}"
    return f"{100 * value.mean:+.1f}" + ("" if value.half is None else f" ± {100 * value.half:.1f}")


def cell_words(cell: Cell, form: str) -> str:
    """A cell as text; empty where nothing was measured."""
    if cell is None:
        return ""
    if form == "percent" and not isinstance(cell, str):
        return percent_words(cell)
    if form == "gain" and isinstance(cell, Interval | float | int):
        return gain_words(cell)
    if isinstance(cell, Value | Interval):
        digits, spread = ".4f" if form == "ratio" else ".4g", spread_of(cell)
        return f"{cell.mean:{digits}}" + ("" if spread is None else f" ± {spread:{digits}}")
    if form == "number" and isinstance(cell, float | int):
        return f"{cell:.0f}" if 1e4 <= abs(cell) < 1e6 else f"{cell:.4g}"  # 10000 is no 1e+04
    if form == "seconds" and isinstance(cell, float | int):
        return f"{cell:,.0f} s" if cell >= 10 else f"{cell:.2g} s"
    return str(cell)


def markdown(outcome: Outcome) -> str:
    """The outcome as a page of Markdown; charts are pictures beside it, `chart-1.png` and so on."""
    lines = [f"# {outcome.title}", "", outcome.question, ""]
    lines += table_lines(outcome.columns, outcome.rows)
    for table in outcome.tables:
        lines += ["", f"## {table.title}", "", *table_lines(table.columns, table.rows)]
    lines += ["", *(f"* {note}" for note in outcome.notes), ""]
    lines += [f"![{chart.title}](chart-{number}.png)\n" for number, chart in enumerate(outcome.charts, 1)]
    lines += ["| setting | |", "|---|---|"]
    lines += [f"| {key} | {_escaped(str(value))} |" for key, value in outcome.setting.items()]
    return "\n".join(lines) + "\n"


def table_lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """A table in Markdown."""
    lines = ["| " + " | ".join(column.heading for column in columns) + " |"]
    lines += ["|" + "|".join("---" if column.form == "text" else "---:" for column in columns) + "|"]
    for row in rows:
        cells = (_escaped(cell_words(row.get(column.key), column.form)) for column in columns)
        lines += ["| " + " | ".join(cells) + " |"]
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")

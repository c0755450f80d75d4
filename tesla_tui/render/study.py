"""The table of a study in the terminal."""

from typing import Literal

from rich.console import Console
from rich.table import Table

from engine.tools.studies.outcome import Outcome, Value, cell_words
from engine.tools.studies.outcome import Table as Second
from engine.tools.studies.statistics import Interval
from tesla_tui.render.tables import is_bounded, print_table
from tesla_tui.render.words import clean

BEST = "accuracy"
"""The column whose highest value stands out."""


def study_table(outcome: Outcome | Second) -> Table:
    """Rows and columns of an outcome; the best accuracy in bold."""
    table = Table(title=outcome.title, title_justify="left", header_style="bold")
    for column in outcome.columns:
        side: Literal["left", "right"] = "left" if column.form == "text" else "right"
        table.add_column(clean(column.heading), justify=side, vertical="bottom", overflow="fold")
    values = [row.get(BEST) for row in outcome.rows if row.get("of_whole") != 1.0]  # the upper bound does not compete
    best = max((value.mean for value in values if isinstance(value, Value | Interval)), default=None)
    for row in outcome.rows:
        value = row.get(BEST)
        style = "bold" if isinstance(value, Value | Interval) and value.mean == best else ""
        cells = [clean(cell_words(row.get(column.key), column.form)) for column in outcome.columns]
        table.add_row(*cells, style=style)
    return table


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Tables and notes; in a file or a pipe as wide as they are, so that no value is cut."""
    tables: list[Outcome | Second] = [outcome, *outcome.tables]
    for table in tables:
        print_table(console, study_table(table))
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False, markup=False, soft_wrap=not is_bounded(console))

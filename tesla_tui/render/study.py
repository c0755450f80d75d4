"""The table of a study in the terminal."""

from typing import Literal

from rich.console import Console
from rich.table import Table

from engine.tools.studies.outcome import Outcome, Value, cell_words
from tesla_tui.render.words import clean

BEST = "accuracy"
"""The column whose highest value stands out."""


def study_table(outcome: Outcome) -> Table:
    """Rows and columns of an outcome; the best accuracy in bold."""
    table = Table(title=outcome.title, title_justify="left", header_style="bold")
    for column in outcome.columns:
        side: Literal["left", "right"] = "left" if column.form == "text" else "right"
        table.add_column(clean(column.heading), justify=side, vertical="bottom", overflow="fold")
    values = [row.get(BEST) for row in outcome.rows]
    best = max((value.mean for value in values if isinstance(value, Value)), default=None)
    for row in outcome.rows:
        value = row.get(BEST)
        style = "bold" if isinstance(value, Value) and value.mean == best else ""
        cells = [clean(cell_words(row.get(column.key), column.form)) for column in outcome.columns]
        table.add_row(*cells, style=style)
    return table


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Table and notes."""
    console.print(study_table(outcome))
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False, markup=False)

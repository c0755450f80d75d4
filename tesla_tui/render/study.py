"""The table of a study in the terminal."""

from collections.abc import Set
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from engine.tools.studies.outcome import Outcome, Value, cell_words
from engine.tools.studies.outcome import Table as Second
from engine.tools.studies.statistics import Interval
from tesla_tui.render.tables import UNBOUNDED, is_bounded, print_table
from tesla_tui.render.words import clean

BEST = "accuracy"
"""The column whose highest value stands out."""
LEAST_WANTED = ("pace", "networks", "method", "whole", "random", "of_whole", "gain")
"""Columns dropped in a narrow terminal, in this order; never the first one, which names the row."""


def study_table(
    outcome: Outcome | Second, width: int = UNBOUNDED, without: Set[str] = frozenset(), framed: bool = True
) -> tuple[Table, bool]:
    """Rows and columns of an outcome, the best accuracy in bold; and whether it fits with every word and number whole.

    Args:
        outcome: what to show.
        width: characters there are.
        without: keys of columns that are left out.
        framed: whether lines are drawn.
    """
    columns = [column for column in outcome.columns if column.key not in without]
    texts = [[clean(cell_words(row.get(c.key), c.form)) for row in outcome.rows] for c in columns]
    words = [[*clean(c.heading).split(), *_pieces(c.form, cells)] for c, cells in zip(columns, texts, strict=True)]
    widths = [max(map(cell_len, found), default=1) for found in words]
    room = width - sum(widths) - (3 * len(columns) + 1 if framed else 2 * (len(columns) - 1))
    fits = room >= 0
    for wanted in (texts, [[clean(column.heading)] for column in columns]):  # cells in one line first, then headings
        for place, found in enumerate(wanted):
            more = max(0, min(room, max(map(cell_len, found), default=0) - widths[place]))
            widths[place], room = widths[place] + more, room - more
    table = Table(
        title=outcome.title, title_justify="left", header_style="bold",
        box=box.HEAVY_HEAD if framed else None, pad_edge=framed, padding=(0, 1) if framed else (0, 2, 0, 0),
    )  # fmt: skip
    for column, most in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "left" if column.form == "text" else "right"
        set_width = most if fits else None
        table.add_column(clean(column.heading), justify=side, vertical="bottom", overflow="fold", width=set_width)
    values = [row.get(BEST) for row in outcome.rows if row.get("of_whole") != 1.0]  # the upper bound does not compete
    best = max((value.mean for value in values if isinstance(value, Value | Interval)), default=None)
    for row, cells in zip(outcome.rows, zip(*texts, strict=True), strict=True):
        value = row.get(BEST)
        table.add_row(*cells, style="bold" if isinstance(value, Value | Interval) and value.mean == best else "")
    return table, fits


def _pieces(form: str, cells: list[str]) -> list[str]:
    """What a line must hold whole: words of a text, and all of a number."""
    return [word for cell in cells for word in cell.split()] if form == "text" else cells


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Tables and notes; in a file or a pipe as wide as they are, so that no value is cut."""
    tables: list[Outcome | Second] = [outcome, *outcome.tables]
    for table in tables:
        _print_fitting(console, table)
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False, markup=False, soft_wrap=not is_bounded(console))


def _print_fitting(console: Console, outcome: Outcome | Second) -> None:
    """A table in the width there is: without a frame, and without the least wanted columns, if it has to be."""
    width = console.width if is_bounded(console) else UNBOUNDED
    table, fits = study_table(outcome, width)
    there = [column.key for column in outcome.columns[1:]]
    left: list[str] = []
    for key in (None, *(key for key in LEAST_WANTED if key in there)):
        if fits:
            break
        left += [key] if key else []
        table, fits = study_table(outcome, width, set(left), framed=False)
    print_table(console, table)
    if left:
        headings = "; ".join(column.heading.removesuffix(", %") for column in outcome.columns if column.key in left)
        console.print(f"Not shown in {width} characters: {headings}.", style="dim", highlight=False, markup=False)

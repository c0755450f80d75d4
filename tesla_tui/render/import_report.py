"""What an import of a distilled set found, as a list of facts."""

from rich.table import Table
from rich.text import Text

from engine.tools.exchange.set_report import SetReport
from tesla_tui.render.words import clean


def import_report(report: SetReport) -> Table:
    """A line or more for each fact. Names in the files are foreign text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, words in report.rows():
        table.add_row(name, Text(clean(words)))
    return table

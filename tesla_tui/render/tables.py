"""The tables of results and runs."""

import os

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.events import EvaluationDone
from engine.runs.judgement import Outcome
from engine.runs.status import RunStatus
from engine.settings.decoders import formation_words, random_words
from tesla_tui.render.words import accuracy_of, ago, clean, percent, short_duration

STATE_STYLE = {
    "running": "green",
    "paused": "yellow",
    "stalled": "bold yellow",
    "finished": "bold green",
    "imported": "cyan",
    "failed": "bold red",
    "interrupted": "yellow",
    "broken": "bold red",
}
COLUMNS = ("run", "state", "progress", "loss", "held out %", "test %", "random %", "updated")
LEAST_WANTED = ("updated", "loss", "random %", "held out %", "progress")
"""Columns dropped in a narrow terminal, in this order."""
NARROW = 75
"""Below this width, a table of results has no frame and only accuracies."""
UNBOUNDED = 10_000
"""Wider than any line."""


def print_table(console: Console, table: Table) -> None:
    """A table as wide as the terminal allows; in a file or a pipe as wide as it is, so that no value is cut."""
    if is_bounded(console):
        console.print(table)
    else:
        # Rich takes no width beyond the console's own.
        Console(file=console.file, width=natural_width(console, table), quiet=console.quiet).print(table)


def is_bounded(console: Console) -> bool:
    """Whether lines have to fit a width: a terminal's, or one that the environment asks for."""
    return console.is_terminal or "COLUMNS" in os.environ


def natural_width(console: Console, table: Table) -> int:
    """Characters a table takes where nothing has to be cut or wrapped."""
    return console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum


def results_table(
    distilled: tuple[EvaluationDone, ...],
    random: tuple[EvaluationDone, ...],
    outcomes: tuple[Outcome, ...],
    ipc: int,
    width: int,
) -> Table:
    """Test accuracy of random real images and of the distilled ones, per network; in `width` characters.

    Narrow terminals see fewer columns, not pieces of all.
    """
    title = f"Test accuracy, {ipc} image{'s' if ipc > 1 else ''} per class"
    factor = max((result.formation for result in (*distilled, *random)), default=1)
    if factor > 1:
        title += f" ({formation_words(factor)})"
    narrow = width < NARROW
    table = Table(title=title, title_justify="left", box=None if narrow else box.HEAVY_HEAD, pad_edge=not narrow)
    table.add_column("network")
    table.add_column("random" if narrow else random_words(factor), justify="right", no_wrap=narrow)
    table.add_column("distilled", justify="right", style="bold", no_wrap=narrow)
    if not narrow:
        table.add_column("gained", justify="right")
        table.add_column("networks trained", justify="right", style="dim")
    by_network = {result.network: result for result in random}
    gains = {outcome.network: gain_cell(outcome) for outcome in outcomes}
    for result in distilled:
        base = by_network.get(result.network)
        more = (gains.get(result.network, ""), str(len(result.accuracies)))
        table.add_row(
            Text(clean(result.network)),
            _cell(base) if base else "not measured",
            _cell(result),
            *(() if narrow else more),
        )
    return table


def gain_cell(outcome: Outcome) -> Text:
    """The gain in points, green where its interval is above 0; `none` for a set that was not improved."""
    if outcome.kind == "unimproved":
        return Text("none", style="yellow")
    if outcome.difference is None:
        return Text("")
    return Text(f"{100 * outcome.difference:+.1f}", style={"gained": "green", "worse": "red"}.get(outcome.kind, ""))


def _cell(result: EvaluationDone) -> str:
    return accuracy_of(result) + " %"


def runs_table(runs: list[RunStatus], console: Console) -> Table:
    """All runs of a workspace, a line each; columns that do not fit are dropped, least important first."""
    for count in range(len(LEAST_WANTED) + 1):
        table = _runs_table(runs, set(LEAST_WANTED[:count]))
        if not is_bounded(console) or natural_width(console, table) <= console.width:
            break
    return table


def _runs_table(runs: list[RunStatus], without: set[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns = [name for name in COLUMNS if name not in without]
    for name in columns:
        if name in ("run", "state", "progress"):
            table.add_column(name, no_wrap=True)
        elif name == "updated":
            table.add_column(name, no_wrap=True, style="dim")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        style = STATE_STYLE.get(run.state, "")
        cells = {
            "run": run.name,
            "state": f"[{style}]{run.state}[/]" if style else run.state,
            "progress": progress_words(run),
            "loss": "" if run.loss is None else f"{run.loss:.3f}",
            "held out %": "" if run.holdout is None else percent(run.holdout),
            "test %": _measured(run.test),
            "random %": _measured(run.random),
            "updated": ago(run.updated),
        }
        table.add_row(*(cells[name] for name in columns))
    return table


def _measured(results: tuple[EvaluationDone, ...]) -> str:
    return accuracy_of(results[0]) if results else ""


def progress_words(run: RunStatus) -> str:
    """How far a run is, with the time left where it is known."""
    if run.state in ("imported", "broken"):
        return "made elsewhere" if run.state == "imported" else ""
    if run.stage == "teachers":
        return f"teachers {run.teachers_done}/{run.teachers_total}"
    words = f"{run.iteration}/{run.iterations}"
    if run.compiling and run.eta is None:
        return f"{words}, compiling"
    return words if run.eta is None else f"{words}, {short_duration(run.eta)} left"

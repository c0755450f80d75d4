"""The tables of results and runs."""

from rich.table import Table
from rich.text import Text

from engine.events import EvaluationDone
from engine.status import RunStatus
from tesla_tui.render.words import ago, clean, percent, plus_minus, short_duration

STATE_STYLE = {
    "running": "green",
    "paused": "yellow",
    "stalled": "bold yellow",
    "finished": "bold green",
    "imported": "cyan",
    "failed": "bold red",
    "interrupted": "yellow",
}


def results_table(distilled: tuple[EvaluationDone, ...], random: tuple[EvaluationDone, ...], ipc: int) -> Table:
    """Test accuracy of random real images and of the distilled ones, per network."""
    table = Table(title=f"Test accuracy, {ipc} image{'s' if ipc > 1 else ''} per class", title_justify="left")
    table.add_column("network")
    table.add_column("random real images", justify="right")
    table.add_column("distilled", justify="right", style="bold")
    table.add_column("gained", justify="right", style="green")
    table.add_column("networks trained", justify="right", style="dim")
    by_network = {result.network: result for result in random}
    for result in distilled:
        base = by_network.get(result.network)
        table.add_row(
            Text(clean(result.network)),
            _cell(base) if base else "not measured",
            _cell(result),
            f"{100 * (result.mean - base.mean):+.1f}" if base else "",
            str(len(result.accuracies)),
        )
    return table


def _cell(result: EvaluationDone) -> str:
    return plus_minus(result.mean, result.std, len(result.accuracies)) + " %"


def runs_table(runs: list[RunStatus], width: int) -> Table:
    """All runs of a workspace, a line each; on a terminal narrower than 100 characters without the age."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, longest in (("run", max((len(run.name) for run in runs), default=0)), ("state", 8), ("progress", 9)):
        table.add_column(name, no_wrap=True, min_width=min(longest, 24))
    for name in ("loss", "held out %", "test %", "random %"):
        table.add_column(name, justify="right", no_wrap=True)
    wide = width >= 100
    if wide:
        table.add_column("written", no_wrap=True, style="dim")
    for run in runs:
        style = STATE_STYLE.get(run.state, "")
        table.add_row(
            run.name,
            f"[{style}]{run.state}[/]" if style else run.state,
            progress_words(run),
            "" if run.loss is None else f"{run.loss:.3f}",
            "" if run.holdout is None else percent(run.holdout),
            plus_minus(run.test[0].mean, run.test[0].std, len(run.test[0].accuracies)) if run.test else "",
            plus_minus(run.random[0].mean, run.random[0].std, len(run.random[0].accuracies)) if run.random else "",
            *([ago(run.updated)] if wide else []),
        )
    return table


def progress_words(run: RunStatus) -> str:
    """How far a run is, with the time left where it is known."""
    if run.state == "imported":
        return "made elsewhere"
    if run.stage == "teachers":
        return f"teachers {run.teachers_done}/{run.teachers_total}"
    words = f"{run.iteration}/{run.iterations}"
    return words if run.eta is None else f"{words}, {short_duration(run.eta)} left"

"""The end of a run for the user: the images, the table, the next command."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from engine.errors import TeslaError
from engine.events import EvaluationDone
from engine.runs.judgement import Outcome
from engine.runs.protocol import tunes_network
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.settings import Settings, method_traits
from engine.settings.overrides import code_named
from engine.settings.trust import is_recorded
from tesla_tui.render.commands import command
from tesla_tui.render.tables import is_bounded, print_table, results_table
from tesla_tui.render.words import clean

MOST_SHOWN = 20
"""Images shown under a finished run; `tesla show` has them all."""


def print_result(console: Console, workspace: Workspace, run: Run, *, pictures: bool = True) -> None:
    """Grid, results, what to do next."""
    status = run_status(run)
    makes_set = not method_traits(status.method).all_images
    if pictures and status.selected is not None and makes_set:
        from tesla_tui.cli.show import grid_of

        try:
            console.print(grid_of(workspace, run, status.selected, None, MOST_SHOWN))
        except TeslaError as error:  # the dataset was moved or changed since: what was measured is still there
            words = clean(f"The images cannot be shown: {error.message} {error.hint}".rstrip())
            console.print(Text(words, style="yellow"), soft_wrap=not is_bounded(console))
    if status.test:
        print_table(console, results_table(status.test, status.random, status.outcomes, status.ipc, console.width))
    print_rates(console, run.frozen().settings, status.test, status.random)
    if status.selected is not None and status.iterations:
        why = "the last one"
        if status.holdout is not None:
            best = "held-out accuracy" if status.unimproved else "best held-out accuracy"
            why = f"{best}, {100 * status.holdout:.1f} %"
        console.print(f"Checkpoint {status.selected} of {status.iterations} iterations ({why}).", highlight=False)
    print_outcomes(console, status.outcomes)
    commands = [command("show", workspace.folder, "--run", run.name)]
    if makes_set:
        # A name typed with --set is consent for that command only: without this the export would be refused.
        needed = [command("trust", name) for name in code_named(run.frozen().flat()) if not is_recorded(name)]
        if needed:
            print_commands(console, "Before you export, allow the code that this run uses:", *needed)
        commands.insert(0, command("export", workspace.folder, "--run", run.name, "--to", "out/"))
    print_commands(console, "Next:", *commands)


def print_rates(
    console: Console, settings: Settings, distilled: Sequence[EvaluationDone], random: Sequence[EvaluationDone]
) -> None:
    """The learning rates that were chosen for a test, or set; nothing for those that images learned."""
    own = "this run's own draws" if settings.draws_random else "distilled images"
    for what, results in (("random real images", random), (own, distilled)):
        found: dict[str, dict[str, list[str]]] = {}
        for result in results:
            if result.lr is not None:
                tuned = tunes_network(settings, result.subject, result.network)
                chosen = tuned or (settings.evaluate.random_lr == "tuned" and settings.dataset.holdout)
                rates = found.setdefault(" (chosen on the held-out part)" if chosen else "", {})
                rates.setdefault(f"{result.lr:.3g}", []).append(clean(result.network))
        for how, rates in found.items():
            of_all = len(results) == sum(map(len, rates.values())) and len(rates) == 1
            words = ", ".join(rates if of_all else (f"{rate} with {' and '.join(rates[rate])}" for rate in rates))
            console.print(f"Learning rate for {what}: {words}{how}.", highlight=False)


def print_outcomes(console: Console, outcomes: tuple[Outcome, ...]) -> None:
    """What was gained, with its interval, once for all networks where it is the same."""
    for words, kind in dict.fromkeys((outcome.words, outcome.kind) for outcome in outcomes):
        style = "" if kind in ("gained", "unknown") else "yellow"
        console.print(Text(clean(words), style=style), soft_wrap=not is_bounded(console))


def print_commands(console: Console, words: str, *commands: str) -> None:
    """Commands to type, each on a line of its own that the terminal may wrap but we do not break."""
    console.print(words, highlight=False)
    for typed in commands:
        console.print(Text(f"  {typed}", style="bold"), soft_wrap=True)

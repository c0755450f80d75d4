"""`tesla evaluate`."""

from typing import Annotated

import typer

from tesla_tui.cli.options import NETWORK_HELP, ExistingRun, Iteration, Overrides, WorkspacePath


def evaluate(
    workspace: WorkspacePath,
    run: ExistingRun = None,
    network: Annotated[
        list[str] | None,
        typer.Option("--network", help=f"{NETWORK_HELP} Repeatable.", show_default=False),
    ] = None,
    iteration: Iteration = None,
    overrides: Overrides = None,
) -> None:
    """Measure the test accuracy of distilled images.

    Trains new networks on them, and on as many random real images for comparison.

    Examples:

        tesla evaluate my-run --run quick --network mlp

        tesla evaluate my-run --run ipc-10 --network convnet --network resnet18 --network vit

        tesla evaluate my-run --set evaluate.repeats=10
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.evaluation_settings import evaluation_settings
    from engine.runs.judgement import outcomes
    from engine.runs.protocol import protocol_words
    from engine.runs.selection import checkpoint_to_use, is_unimproved
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.follow import follow
    from tesla_tui.cli.result import print_outcomes, print_rates
    from tesla_tui.render.tables import print_table, results_table
    from tesla_tui.render.words import literal

    console = Console()
    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    effective, warning = evaluation_settings(opened, chosen, overrides or ())
    if warning:
        console.print(f"[yellow]Warning:[/] {literal(warning)}", highlight=False, soft_wrap=not console.is_terminal)
    settings = effective.settings
    networks = tuple(network or settings.evaluate.networks or (settings.network.name,))
    from engine.session.session import evaluate_run

    code = follow(evaluate_run(opened, chosen, settings, iteration, networks), console)
    if code is not ExitCode.OK:
        console.print(
            "[yellow]Stopped; finished networks are kept.[/] Run the same command to resume.", highlight=False
        )
        raise typer.Exit(code)
    own = chosen.frozen().settings
    at = checkpoint_to_use(chosen, own, iteration)
    results = [r for r in chosen.evaluations(settings) if r.split == "test" and r.network in networks]
    distilled = tuple(result for result in results if result.subject == "distilled" and result.iteration == at)
    random = tuple(result for result in results if result.subject == "random")
    found = outcomes(distilled, random, unimproved=iteration is None and is_unimproved(chosen, own, at))
    print_table(console, results_table(distilled, random, found, settings.distill.ipc, console.width))
    print_rates(console, settings, distilled, random)
    print_outcomes(console, found)
    others = protocol_words(settings, own)
    if others:
        console.print(
            f"Measured with {others}. `tesla status` still shows the results of the run's own protocol; "
            "`tesla report` has both.",
            highlight=False,
            soft_wrap=not console.is_terminal,
        )

"""`tesla stop`."""

from typing import Annotated

import typer

from tesla_tui.cli.options import ExistingRun, WorkspacePath


def stop(
    workspace: WorkspacePath,
    run: ExistingRun = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for it to save.")] = 60.0,
) -> None:
    """Save and stop a run on this machine.

    Takes at most one matching step.

    Example:

        tesla stop my-run --run quick
    """
    from rich.console import Console

    from engine.errors import TeslaError
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.drivers import watch
    from tesla_tui.cli.result import print_commands
    from tesla_tui.process.detached import ask_to_stop, wait_until_free
    from tesla_tui.render.commands import command
    from tesla_tui.render.words import duration, saved_words

    console = Console()
    opened = Workspace(workspace)
    watch(opened.runs() if run is None else [opened.existing_run(run)])
    if run is None:
        from engine.runs.liveness import is_driven

        driven = [each.name for each in opened.runs() if is_driven(each)]
        run = driven[0] if len(driven) == 1 else None
    chosen = opened.existing_run(run)
    pid = ask_to_stop(chosen)
    if not wait_until_free(chosen, wait):
        raise TeslaError(
            f"The run {chosen.name} (process {pid}) did not stop within {duration(wait)}.",
            "It may be in a long step: wait, or check `tesla status`. A second `tesla stop` ends it immediately "
            "and loses the work since its last checkpoint.",
        )
    what = saved_words(max(chosen.checkpoints(), default=None))
    print_commands(
        console,
        f"[yellow]{chosen.name} stopped;[/] {what}. Resume with:",
        command("run", workspace, "--run", chosen.name),
    )

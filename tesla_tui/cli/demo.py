"""`tesla demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for the demo workspace.")] = Path("demo"),
) -> None:
    """Distil the built-in digits to one image per class.

    Takes a minute or two on two CPU cores.

    Example:

        tesla demo
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.workspace import Workspace
    from engine.settings import resolve_settings
    from tesla_tui.cli.follow import follow
    from tesla_tui.cli.result import print_commands, print_result
    from tesla_tui.render.commands import command
    from tesla_tui.render.words import literal

    console = Console()
    if not (to / "tesla.toml").exists():
        effective = resolve_settings(overrides=["dataset.name=digits"])
        Workspace.create(to, effective, {"dataset.name"})
    workspace = Workspace(to)
    run = workspace.run("ipc-1")
    console.print(
        "[bold]1,797 handwritten digits, distilled to one synthetic image per class.[/]\n"
        f"Workspace: {literal(to)}. Ctrl-C stops; run the same command to resume.",
        highlight=False,
    )
    from engine.session.session import drive

    code = follow(drive(workspace, run, workspace.settings(ipc=1, run=run)), console)
    if code is not ExitCode.OK:
        console.print("[yellow]Stopped and saved.[/] Run the same command to resume.", highlight=False)
        raise typer.Exit(code)
    print_result(console, workspace, run)
    print_commands(
        console,
        "Inspect the result, then try a real dataset:",
        command("tui", to),
        command("init", "my-run", "--dataset", "fashion-mnist"),
        command("run", "my-run", "--ipc", 1),
    )

"""`tesla init`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import DATASETS, Overrides


def init(
    workspace: Annotated[Path, typer.Argument(help="Folder to create.", metavar="WORKSPACE", show_default=False)],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help=f"{DATASETS}, the path of a folder with one subfolder per class, or a Hugging Face id owner/name.",
        ),
    ] = "digits",
    overrides: Overrides = None,
) -> None:
    """Create a workspace.

    Its tesla.toml lists and explains every setting.

    Examples:

        tesla init my-run --dataset fashion-mnist

        tesla init cats --dataset ~/pictures/cats --set dataset.resolution=64
    """
    from rich.console import Console

    from engine.runs.create import plan_workspace
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command
    from tesla_tui.render.words import literal

    plan = plan_workspace(workspace, dataset, list(overrides or []))
    made = plan.make()
    console = Console()
    console.print(f"Created [bold]{literal(made.folder)}[/] for {literal(plan.source)}.", highlight=False)
    console.print(f"Settings: {literal(made.toml)}", highlight=False)
    print_commands(console, "Next:", command("run", made.folder, "--ipc", 1))

"""`tesla init`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import DATASETS, Overrides
from tesla_tui.cli.profile import Profile, with_profile


def init(
    workspace: Annotated[Path, typer.Argument(help="Folder to create.", metavar="WORKSPACE", show_default=False)],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help=f"{DATASETS}; the path of a folder, zip or Parquet file; or a hub id owner/name.",
        ),
    ] = "digits",
    overrides: Overrides = None,
    profile: Profile = None,
) -> None:
    """Create a workspace.

    Looks at the dataset first and reports what it is and what is left out; `tesla data` says more.
    The workspace's tesla.toml lists and explains every setting.

    Examples:

        tesla init my-run --dataset fashion-mnist

        tesla init published --dataset cifar10 --profile mtt

        tesla init cats --dataset ~/pictures/cats --set dataset.resolution=64
    """
    from rich.console import Console

    from engine.runs.create import plan_workspace
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.data import looked
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command
    from tesla_tui.render.data import print_report
    from tesla_tui.render.words import literal

    console = Console()
    plan = plan_workspace(workspace, dataset, with_profile(overrides, profile))
    Workspace.check_new(workspace)  # before the files are looked at
    report = looked(plan.data).report if plan.data.located.local else None
    if plan.data.note:
        console.print(f"[yellow]{literal(plan.data.note)}[/]", highlight=False)
    if report is not None:
        print_report(console, report, short=True)
    else:
        from tesla_tui.cli.hub_data import print_undownloaded

        print_undownloaded(console, plan.data)
    made = plan.make(report)
    console.print(f"\nCreated [bold]{literal(made.folder)}[/].", highlight=False)
    console.print(f"Settings: {literal(made.toml)}", highlight=False)
    print_commands(console, "Next:", command("run", made.folder, "--ipc", plan.data.effective.settings.distill.ipc))

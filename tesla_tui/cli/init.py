"""`tesla init`."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import DATASETS, Overrides, with_names
from tesla_tui.cli.profile import Profile, with_profile

DEFAULT = "digits"


def init(
    workspace: Annotated[
        Path | None,
        typer.Argument(help="Folder to create. In a terminal, default: ask.", metavar="WORKSPACE", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help=f"{DATASETS}; the path of a folder, zip or Parquet file; or a hub id owner/name.",
            show_default="digits",
        ),
    ] = None,
    overrides: Overrides = None,
    profile: Profile = None,
) -> None:
    """Create a workspace.

    Looks at the dataset first and reports what it is and what is left out; `tesla data` says more.
    The workspace's tesla.toml lists and explains every setting. Without arguments, asks for the dataset and a name.

    Examples:

        tesla init my-run

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
    workspace, dataset = _asked(workspace, dataset)
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
    first = command("run", made.folder, "--quick")
    whole = command("run", made.folder, "--ipc", plan.data.effective.settings.distill.ipc)
    print_commands(
        console, "Next, a first result in minutes, or the whole run:", *([first] if profile is None else []), whole
    )


def _asked(workspace: Path | None, dataset: str | None) -> tuple[Path, str]:
    """The folder and the dataset; what was not given is asked for, if the folder was not given either.

    Raises:
        UsageError: the folder was not given, and it cannot be asked for.
    """
    from engine.errors import UsageError, tesla

    if workspace is not None:
        return workspace, DEFAULT if dataset is None else dataset
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "No folder was given for the workspace.", f"Example: {tesla('init', 'my-run', '--dataset', DEFAULT)}"
        )
    if dataset is None:
        typer.echo(f"Datasets: {with_names(DATASETS)}; a folder, zip or Parquet file; or a hub id owner/name.")
        dataset = str(typer.prompt("Dataset", default=DEFAULT))
    return Path(typer.prompt("Folder of the workspace", default=_free_name(dataset))), dataset


def _free_name(dataset: str) -> str:
    """A folder named for the dataset that does not exist yet."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset.rstrip("/")).stem).strip("-.") or "my-run"
    names = (f"{stem}-distilled", *(f"{stem}-distilled-{number}" for number in range(2, 100)))
    return next((name for name in names if not Path(name).exists()), "my-run")

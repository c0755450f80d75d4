"""`tesla data`."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import DATASETS, Json, Overrides

if TYPE_CHECKING:
    from engine.data.resolve import ResolvedData
    from engine.events import Event
    from engine.runs.create import DataPlan


def data(
    dataset: Annotated[
        str,
        typer.Argument(
            help=f"{DATASETS}; the path of a folder, zip or Parquet file; a hub id owner/name; or a workspace.",
            metavar="DATASET",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    pictures: Annotated[
        bool | None,
        typer.Option("--pictures/--no-pictures", help="Show an image of each class. Default: in a terminal."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download a hub dataset that is not on this machine.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Report what a dataset is, before anything is decoded.

    Splits, columns, classes, sizes, and what is left out, each with its reason.
    Writes nothing.

    Examples:

        tesla data digits

        tesla data ~/pictures

        tesla data photos.zip --set dataset.classes=classes.txt

        tesla data my-run --json | jq '.classes[].name'
    """
    from rich.console import Console

    from engine.runs.create import plan_data, plan_of
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command, set_options
    from tesla_tui.render.data import print_report
    from tesla_tui.render.words import literal

    console = Console()
    folder = Path(dataset).expanduser()
    texts = list(overrides or [])
    if (folder / "tesla.toml").is_file():
        plan = plan_of(Workspace(folder), texts)
        following = command("run", folder, "--ipc", 1, *set_options(texts))
    else:
        plan = plan_data(dataset, texts)
        following = command("init", "my-run", "--dataset", dataset, *set_options(texts))
    if not plan.located.local and not download:
        from tesla_tui.cli.hub_data import print_undownloaded, undownloaded_json

        if as_json:
            typer.echo(json.dumps({**undownloaded_json(plan), "next": following}, indent=2))
            return
        print_undownloaded(console, plan)
        console.print("\nFor the whole report, add [bold]--download[/].", highlight=False)
        print_commands(console, "Next:", following)
        return
    found = looked(plan)
    if as_json:
        typer.echo(json.dumps({**found.report.to_json(), "next": following}, indent=2))
        return
    if plan.note:
        console.print(f"[yellow]{literal(plan.note)}[/]", highlight=False)
    print_report(console, found.report)
    if pictures if pictures is not None else console.is_terminal:
        from tesla_tui.render.first_images import print_first_images

        print_first_images(console, found)
    console.print()
    print_commands(console, "Next:", following)


def looked(plan: "DataPlan") -> "ResolvedData":
    """The dataset, opened with progress on standard error.

    Raises:
        TeslaError: it cannot be used as asked.
        typer.Exit: a signal stopped it.
    """
    from rich.console import Console

    from engine.data.resolve import resolving
    from tesla_tui.cli.follow import follow

    made: list[ResolvedData] = []

    def looking() -> "Generator[Event, None, None]":
        made.append((yield from resolving(plan.located, plan.request)))

    code = follow(looking(), Console(stderr=True))
    if not made:
        raise typer.Exit(code)
    return made[0]

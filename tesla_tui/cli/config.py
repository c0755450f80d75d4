"""`tesla config`."""

from typing import Annotated

import typer

from tesla_tui.cli.options import Ipc, Json, Overrides, RunName, WorkspacePath
from tesla_tui.cli.profile import Profile, with_profile


def config(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    run: RunName = None,
    overrides: Overrides = None,
    profile: Profile = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only values that differ from their defaults.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print every setting and where it comes from.

    Later layers win: defaults, the preset of dataset and IPC, tesla.toml, its [ipc.N] table, the command line. With a
    profile, also what is not as published, and why.

    Examples:

        tesla config my-run --ipc 10 --set distill.steps=30

        tesla config my-run --ipc 10 --profile mtt --changed
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from engine.runs.workspace import Workspace
    from engine.settings.tables import value_words
    from tesla_tui.render.profile import comparison_json, print_comparison
    from tesla_tui.render.tables import NARROW, is_bounded, print_table
    from tesla_tui.render.words import literal

    opened = Workspace(workspace)
    chosen = opened.run(run) if run is not None else None
    effective = opened.settings(ipc=ipc, overrides=with_profile(overrides, profile), run=chosen)
    flat = effective.flat()
    if as_json:
        rows = {key: {"value": flat[key], "origin": effective.origins[key]} for key in flat}
        for key, more in comparison_json(effective).items():
            rows[key] |= more
        typer.echo(json.dumps(rows, indent=2))
        return
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", style="dim", overflow="fold")
    for key, value in flat.items():
        origin = effective.origins[key]
        if changed and origin == "default":
            continue
        words = literal(value_words(value))
        style = "" if origin == "default" else "bold"
        if console.width < NARROW and is_bounded(console):
            console.print(f"[{style or 'none'}]{key} = {words}[/] [dim]({literal(origin)})[/]", highlight=False)
        else:
            table.add_row(key, words, literal(origin), style=style)
    if table.row_count:
        print_table(console, table)
    print_comparison(console, effective)

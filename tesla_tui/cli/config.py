"""`tesla config`."""

from typing import Annotated

import typer

from tesla_tui.cli.options import Ipc, Json, Overrides, RunName, WorkspacePath


def config(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    run: RunName = None,
    overrides: Overrides = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only values that differ from their defaults.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print every setting and where it comes from.

    Later layers win: defaults, the preset of dataset and IPC, tesla.toml, its [ipc.N] table, the command line.

    Example:

        tesla config my-run --ipc 10 --set distill.steps=30
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from engine.runs.workspace import Workspace
    from tesla_tui.render.tables import NARROW, is_bounded, print_table
    from tesla_tui.render.words import literal

    opened = Workspace(workspace)
    chosen = opened.run(run) if run is not None else None
    effective = opened.settings(ipc=ipc, overrides=tuple(overrides or ()), run=chosen)
    flat = effective.flat()
    if as_json:
        rows = {key: {"value": flat[key], "origin": effective.origins[key]} for key in flat}
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
        listed = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value).strip('"')
        words = "unset" if value is None else literal(listed)
        style = "" if origin == "default" else "bold"
        if console.width < NARROW and is_bounded(console):
            console.print(f"[{style or 'none'}]{key} = {words}[/] [dim]({literal(origin)})[/]", highlight=False)
        else:
            table.add_row(key, words, literal(origin), style=style)
    if table.row_count:
        print_table(console, table)

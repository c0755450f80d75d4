"""`tesla report`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import ExistingRun, WorkspacePath


def report(
    workspace: WorkspacePath,
    run: ExistingRun = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The HTML file; without it WORKSPACE-RUN.html here.", show_default=False),
    ] = None,
) -> None:
    """Write all there is to know of a run as one HTML file to read, send and print: results, images, curves, settings.

    It needs no network and nothing beside it, and may be written at any time of a run.

    Example:

        tesla report my-run --run ipc-10 --to ipc-10.html
    """
    from rich.console import Console

    from engine.runs.workspace import Workspace
    from engine.storage.filesystem import format_bytes
    from tesla_tui.report.page import write_report

    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    path = to if to is not None else Path(f"{workspace.resolve().name}-{chosen.name}.html")
    written = write_report(opened, chosen, path)
    Console().print(f"Wrote [bold]{path}[/] ({format_bytes(written)}).", highlight=False)

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
        typer.Option(
            "--to", help="HTML file to write. Default: WORKSPACE-RUN.html in this folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a run as one self-contained HTML file.

    Contains results, images, curves and settings. The file needs no network, and can be written at any time during
    a run.

    Example:

        tesla report my-run --run quick --to quick.html
    """
    from rich.console import Console

    from engine.runs.workspace import Workspace
    from engine.storage.filesystem import format_bytes
    from tesla_tui.render.words import literal
    from tesla_tui.report.page import write_report

    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    path = to if to is not None else Path(f"{workspace.resolve().name}-{chosen.name}.html")
    written = write_report(opened, chosen, path)
    Console().print(f"Wrote [bold]{literal(path)}[/] ({format_bytes(written)}).", highlight=False)

"""`tesla log`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import ExistingRun, WorkspacePath

if TYPE_CHECKING:
    from rich.console import Console

    from engine.runs.run import Run


def log(
    workspace: WorkspacePath,
    run: ExistingRun = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="FOLDER",
            help="Write to FOLDER/RUN for TensorBoard until the run ends.",
            show_default=False,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write every number so far as CSV; - for standard output.", show_default=False
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Write what exists now and exit, even if the run is not over.")
    ] = False,
) -> None:
    """Write curves and images for TensorBoard, or CSV.

    Reads files only; the run is not disturbed.

    Examples:

        tesla log my-run --run ipc-10 --tensorboard logs/

        tesla log my-run --csv numbers.csv
    """  # fmt: skip
    from rich.console import Console

    from engine.errors import UsageError
    from engine.runs.workspace import Workspace

    if tensorboard is None and csv is None:
        raise UsageError("Nothing to write.", "Use --tensorboard FOLDER, --csv FILE, or both.")
    if tensorboard is not None and tensorboard.exists() and not tensorboard.is_dir():
        raise UsageError(f"{tensorboard} is a file.", "--tensorboard takes a folder.")
    if csv is not None and csv.is_dir():
        raise UsageError(f"{csv} is a folder.", "--csv takes a file.")
    console = Console(stderr=csv == Path("-"))
    chosen = Workspace(workspace).existing_run(run)
    if csv is not None:
        _csv(chosen, csv, console)
    if tensorboard is not None:
        _tensorboard(chosen, tensorboard, once, console)


def _csv(run: "Run", path: Path, console: "Console") -> None:
    import io
    import sys

    from engine.storage.atomic import write_bytes
    from engine.tools.tracking import write_csv

    if path == Path("-"):
        write_csv(run, sys.stdout)
        return
    text = io.StringIO()
    count = write_csv(run, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode())
    console.print(f"Wrote {count:,} numbers of {run.name} to [bold]{path}[/].", highlight=False)


def _tensorboard(run: "Run", folder: Path, once: bool, console: "Console") -> None:
    from collections.abc import Generator

    from engine.events import Event
    from engine.tools.tracking.tensorboard import log_to_tensorboard
    from tesla_tui.cli.follow import follow

    written: list[int] = []

    def logging() -> Generator[Event, None, None]:
        written.append((yield from log_to_tensorboard(run, folder, once=once)))

    code = follow(logging(), console)
    if not written:
        raise typer.Exit(code)
    console.print(f"Wrote {written[0]:,} points of {run.name} to [bold]{folder / run.name}[/].", highlight=False)
    console.print(f"View them with: [bold]tensorboard --logdir {folder}[/]", highlight=False)

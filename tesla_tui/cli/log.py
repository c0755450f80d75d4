"""`tesla log`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import ExistingRun, WorkspacePath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console

    from engine.runs.run import Run
    from engine.tools.tracking.follow import Tracker


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
            "--csv",
            metavar="FILE",
            help="Write every number so far as CSV; - for standard output.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option(
            "--wandb", metavar="PROJECT", help="Send to a project in W&B until the run ends.", show_default=False
        ),
    ] = None,
    trackio: Annotated[
        str | None,
        typer.Option(
            "--trackio", metavar="PROJECT", help="Write to a project in Trackio until the run ends.", show_default=False
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow",
            metavar="EXPERIMENT",
            help="Send to an experiment in MLflow until it ends.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Write what exists now and exit, even if the run is not over.")
    ] = False,
) -> None:
    """Write curves and images for TensorBoard, W&B, Trackio or MLflow, or numbers as CSV.

    Reads files only; the run is not disturbed. The same command again sends what is missing.

    Examples:

        tesla log my-run --csv numbers.csv

        tesla log my-run --run ipc-10 --tensorboard logs/

        WANDB_MODE=offline tesla log my-run --wandb my-project --once
    """  # fmt: skip
    from rich.console import Console

    from engine.errors import UsageError
    from engine.runs.workspace import Workspace

    if all(choice is None for choice in (tensorboard, csv, wandb, trackio, mlflow)):
        raise UsageError(
            "Nothing to write.",
            "Use --tensorboard FOLDER, --csv FILE, --wandb PROJECT, --trackio PROJECT or --mlflow EXPERIMENT.",
        )
    if tensorboard is not None and tensorboard.exists() and not tensorboard.is_dir():
        raise UsageError(f"{tensorboard} is a file.", "--tensorboard takes a folder.")
    console = Console(stderr=csv == Path("-"))
    chosen = Workspace(workspace).existing_run(run)
    if csv is not None:
        _csv(chosen, csv, console)
    opened = list(_trackers(chosen, tensorboard, wandb, trackio, mlflow))
    if opened:
        _follow(chosen, opened, once, console)


def _trackers(
    run: "Run", tensorboard: Path | None, wandb: str | None, trackio: str | None, mlflow: str | None
) -> "Iterator[AbstractContextManager[Tracker]]":
    """Those that were asked for; each imports its package when it is entered."""
    if tensorboard is not None:
        from engine.tools.tracking.tensorboard import open_tensorboard

        yield open_tensorboard(run, tensorboard)
    if wandb is not None:
        from engine.tools.tracking.wandb import open_wandb

        yield open_wandb(run, wandb)
    if trackio is not None:
        from engine.tools.tracking.trackio import open_trackio

        yield open_trackio(run, trackio)
    if mlflow is not None:
        from engine.tools.tracking.mlflow import open_mlflow

        yield open_mlflow(run, mlflow)


def _csv(run: "Run", path: Path, console: "Console") -> None:
    import io
    import sys

    from engine.storage.atomic import disk, write_bytes
    from engine.tools.tracking import write_csv
    from tesla_tui.render.words import literal

    if path == Path("-"):
        write_csv(run, sys.stdout)
        return
    text = io.StringIO()
    count = write_csv(run, text)
    disk.make_folder(path.parent)
    write_bytes(path, text.getvalue().encode(), tidy=True)
    console.print(f"Wrote {count:,} numbers of {run.name} to [bold]{literal(path)}[/].", highlight=False)


def _follow(run: "Run", opened: "list[AbstractContextManager[Tracker]]", once: bool, console: "Console") -> None:
    from collections.abc import Generator
    from contextlib import ExitStack

    from engine.events import Event
    from engine.tools.tracking.follow import follow
    from tesla_tui.cli import follow as display
    from tesla_tui.render.words import literal

    done: list[Tracker] = []

    def logging() -> Generator[Event, None, None]:
        with ExitStack() as stack:
            trackers = [stack.enter_context(tracker) for tracker in opened]
            yield from follow(run, trackers, once=once)
        done.extend(trackers)

    code = display.follow(logging(), console)
    if not done:
        raise typer.Exit(code)
    for tracker in done:
        console.print(
            f"Wrote {tracker.points:,} points of {run.name} to [bold]{literal(tracker.where)}[/].", highlight=False
        )
        if tracker.view:
            console.print(literal(tracker.view), highlight=False)

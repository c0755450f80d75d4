"""`tesla export`."""

from collections.abc import Generator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import ExistingRun, Iteration, WorkspacePath

if TYPE_CHECKING:
    from engine.events import Event
    from engine.tools.exchange.export import Exported


class Layout(StrEnum):
    """How an export is laid out."""

    FOLDER = "folder"
    PT = "pt"


def export(
    workspace: WorkspacePath,
    to: Annotated[Path, typer.Option("--to", help="Folder to create.", show_default=False)],
    run: ExistingRun = None,
    iteration: Iteration = None,
    layout: Annotated[
        Layout,
        typer.Option("--format", help="folder: the complete dataset; pt: images_best.pt, labels_best.pt, lr_best.pt."),
    ] = Layout.FOLDER,
    with_test: Annotated[
        bool,
        typer.Option("--with-test", help="Include the real test images, so that train.py can measure accuracy."),
    ] = False,
) -> None:
    """Export a self-contained distilled dataset.

    Writes PNGs, tensors, soft labels, Parquet, a card and a training script. With --format pt, writes the three files
    that MTT, TESLA and DATM use instead.

    Examples:

        tesla export my-run --run ipc-10 --to out/ --with-test

        tesla export my-run --run ipc-10 --to published/ --format pt
    """

    from rich.console import Console

    from engine.errors import UsageError, quoted
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.follow import follow
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.words import literal

    if layout is Layout.PT and with_test:
        raise UsageError("--with-test cannot be used with --format pt.", "Published code loads the real images itself.")
    console = Console()
    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    from engine.tools.exchange.export import exporting  # loads PyTorch: after everything that can fail at once

    made: list[Exported] = []

    def writing() -> "Generator[Event, None, None]":
        made.append(
            (yield from exporting(opened, chosen, to, iteration=iteration, with_test=with_test, layout=layout.value))
        )

    code = follow(writing(), console)
    if not made:
        console.print("[yellow]Stopped; nothing was written.[/] Run the same command to start over.", highlight=False)
        raise typer.Exit(code)
    exported = made[0]
    console.print(
        f"Wrote {exported.images} images of {exported.classes} classes to [bold]{literal(to)}[/] "
        f"({chosen.name}, iteration {exported.iteration}){_holding(exported)}.",
        highlight=False,
    )
    if layout is Layout.PT:
        console.print(f"See {literal(to / 'README.md')} for how to load them.", highlight=False)
        return
    words = f"See {literal(to / 'README.md')}; train on it with:"
    print_commands(console, words, quoted("python", to / "train.py"))


def _holding(exported: "Exported") -> str:
    """How they stand for the images of the run, where that is not one for one."""
    from engine.settings.decoders import formation_words

    if exported.formation > 1:
        return f"; {formation_words(exported.formation)}, decoded in decoded/ and data/"
    if exported.images > exported.stored:
        return f", decoded from {exported.stored} stored ones; each has the label of its stored one"
    return ""

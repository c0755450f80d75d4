"""`tesla import-buffers`, `tesla import-images`, `tesla export-buffers`: files of other implementations."""

from collections.abc import Generator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tesla_tui.cli.options import ExistingRun, GivenWorkspace, Ipc, Json, Overrides, WorkspacePath

if TYPE_CHECKING:
    from rich.console import Console

    from engine.events import Event

Result = TypeVar("Result")


class Space(StrEnum):
    """What the numbers of imported images mean."""

    NORMALISED = "normalised"
    WHITENED = "whitened"
    PIXELS = "pixels"


class Labels(StrEnum):
    """What the numbers of imported labels mean."""

    AUTO = "auto"
    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    REGRESSION = "regression"
    HARD = "hard"


def import_buffers(
    workspace: GivenWorkspace,
    files: Annotated[list[Path], typer.Argument(help="replay_buffer_*.pt, in order.", metavar="FILE...")],
    name: Annotated[str, typer.Option("--name", help="Name for the buffer in this workspace.")] = "imported",
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Import only this many trajectories. Default: all.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Import this many epochs of each. Default: all they share."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Import teachers saved by MTT, TESLA, FTD or DATM.

    No code in the files is run. They must match the workspace's dataset and network (--set network.width=128). Record
    how they were trained with --set teachers.lr=0.01 and the like. If stopped, run the same command to resume.

    Examples:

        tesla import-buffers my-run buffers/replay_buffer_0.pt --name copy --set network.width=16

        tesla import-buffers my-run buffers/CIFAR10/ConvNet/replay_buffer_*.pt --name mtt --set network.width=128

        tesla run my-run --ipc 10 --set teachers.buffer=mtt
    """
    from rich.console import Console

    from engine.runs.workspace import Workspace
    from engine.settings import resolve_settings
    from engine.storage.filesystem import format_bytes
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command
    from tesla_tui.render.words import literal

    console = Console()
    opened = Workspace(workspace)
    # Not the settings of a run: the workspace may name this very buffer already.
    effective = resolve_settings(opened.toml, overrides=tuple(overrides or ()))
    from engine.tools.exchange.import_buffers import import_buffers as imported

    buffer = _followed(imported(opened, effective, files, name, count=count, epochs=epochs), console)
    taken = sum(int(file["bytes"]) for file in buffer.files)
    console.print(f"[bold]{name}[/]: {literal(buffer.provenance)} ({format_bytes(taken)}).", highlight=False)
    print_commands(console, "Next:", command("run", workspace, "--set", f"teachers.buffer={name}"))


def export_buffers(
    workspace: WorkspacePath,
    to: Annotated[Path, typer.Option("--to", help="Folder to create.", show_default=False)],
    run: ExistingRun = None,
    ipc: Ipc = None,
    overrides: Overrides = None,
    per_file: Annotated[int, typer.Option("--per-file", min=1, help="Trajectories per file.")] = 10,
) -> None:
    """Export teachers for MTT, TESLA, FTD and DATM.

    Writes replay_buffer_*.pt files. --run selects the teachers of a run; --ipc and --set select those
    of the workspace's settings. Default: the teachers of the most recent run.

    Example:

        tesla export-buffers my-run --run quick --to buffers/
    """
    from rich.console import Console

    from engine.runs.workspace import Workspace
    from engine.storage.filesystem import format_bytes

    console = Console()
    opened = Workspace(workspace)
    chosen = opened.existing_run(run) if run is not None or (opened.runs() and ipc is None and not overrides) else None
    effective = chosen.frozen() if chosen else opened.settings(ipc=ipc, overrides=tuple(overrides or ()))
    from engine.tools.exchange.export_buffers import export_buffers as exported
    from tesla_tui.render.words import literal

    done = _followed(exported(opened, effective.settings, to, per_file=per_file), console)
    total = sum(path.stat().st_size for path in to.glob("*.pt"))
    console.print(
        f"Wrote {done.trajectories} trajectories of {done.epochs} epochs in {done.files} files to "
        f"[bold]{literal(to)}[/] ({format_bytes(total)}).",
        highlight=False,
    )


def import_images(
    workspace: GivenWorkspace,
    images: Annotated[
        Path,
        typer.Argument(
            help="A .pt, .npy, .npz, .safetensors or .parquet file, or a folder with a subfolder per class."
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Argument(help="A file with the labels. Default: in or beside the images.", show_default=False),
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            "--lr",
            help="The learned student learning rate: a number or a file. Default: in or beside the images.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        Space | None,
        typer.Option("--space", help="Space of the image values. Default: told from the values.", show_default=False),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean", help="Channel means used by the publisher, e.g. 0.4914,0.4822,0.4465.", show_default=False
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="Channel standard deviations used by the publisher.", show_default=False)
    ] = None,
    label_kind: Annotated[Labels, typer.Option("--labels", help="Kind of the label values.")] = Labels.AUTO,
    experiment: Annotated[
        int | None,
        typer.Option("--experiment", min=0, help="Set to import from a file of several.", show_default=False),
    ] = None,
    epoch: Annotated[
        str | None,
        typer.Option("--epoch", help="Of labels for every epoch: mean, or a number.", metavar="mean|N"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Order of the set's class numbers: a file with one name per line, dataset, or sorted.",
            metavar="FILE|dataset|sorted",
        ),
    ] = None,
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, help="Import the first N images of each class. Default: all.")
    ] = None,
    formation: Annotated[
        int, typer.Option("--formation", min=1, help="IDC's factor: images on a side of each stored one.")
    ] = 1,
    images_at: Annotated[
        str | None, typer.Option("--images-at", help="Path of the images in the file, e.g. data.0.0.", metavar="PATH")
    ] = None,
    labels_at: Annotated[
        str | None, typer.Option("--labels-at", help="Path of the labels in the file.", metavar="PATH")
    ] = None,
    run: Annotated[str, typer.Option("--run", help="Name for the imported run.")] = "imported",
    as_json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Import a published distilled set as a run.

    Reads files of DC, DSA, DM, IDC, MTT, TESLA, DATM and KIP, folders of pictures (SRe2L, RDED), and
    exports of tesla. Prints what it found before it writes. The run can be evaluated, shown,
    compared and exported like any other.

    Examples:

        tesla import-images my-run published/images_best.pt published/labels_best.pt --lr 0.02 --run published

        tesla import-images my-run images_best.pt labels_best.pt --lr 0.02 --space whitened --run mtt

        tesla import-images my-run res_DM_CIFAR10_ConvNet_10ipc.pt --experiment 0 --run dm

        tesla evaluate my-run --run mtt --network convnet --network resnet18
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from engine.runs.workspace import Workspace
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command
    from tesla_tui.render.words import literal

    console = Console(stderr=as_json)
    opened = Workspace(workspace)
    from engine.tools.exchange.import_images import Wanted, prepare_images
    from engine.tools.exchange.set_report import FORMAT
    from tesla_tui.render.import_report import import_report

    wanted = Wanted(
        images=images, labels=labels, lr=lr, space=space.value if space else None, mean=mean, std=std,
        label_kind=label_kind.value, experiment=experiment, images_at=images_at, labels_at=labels_at, epoch=epoch,
        classes=classes, per_class=per_class, formation=formation,
    )  # fmt: skip
    prepared = _followed(prepare_images(opened, run, wanted, tuple(overrides or ())), console)
    if not as_json:
        console.print(import_report(prepared.report))
    origin = _followed(prepared.write(), console)
    if as_json:
        typer.echo(json.dumps({"format": FORMAT, **asdict(prepared.report)}, indent=2))
        return
    console.print(f"[bold]{run}[/]: {literal(origin.words)}.", highlight=False)
    print_commands(console, "Next:", command("evaluate", workspace, "--run", run))


def _followed(events: "Generator[Event, None, Result]", console: "Console") -> Result:
    """Show the events; the result. A signal stops it, and the process with it."""
    from engine.errors import ExitCode
    from tesla_tui.cli.follow import follow

    found: list[Result] = []

    def taken() -> "Generator[Event, None, None]":
        found.append((yield from events))

    code = follow(taken(), console)
    if not found:
        console.print("[yellow]Stopped.[/] Run the same command to resume.", highlight=False)
        raise typer.Exit(code if code is not ExitCode.OK else ExitCode.FAILURE)
    return found[0]

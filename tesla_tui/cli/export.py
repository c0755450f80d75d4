"""`tesla export`."""

from collections.abc import Generator
from dataclasses import dataclass
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


Title = Annotated[
    str | None,
    typer.Option("--title", help="Title of the real data on the card. Default: its name.", show_default=False),
]
License = Annotated[
    str | None,
    typer.Option(
        "--license", help="Licence of the real data by its id on the hub. Default: what is known, else unknown.",
        show_default=False,
    ),
]  # fmt: skip
Push = Annotated[
    str | None,
    typer.Option(
        "--push", metavar="OWNER/NAME", help="Upload it to the Hugging Face hub, as this dataset.", show_default=False
    ),
]
Private = Annotated[bool, typer.Option("--private", help="With --push: make a new dataset private.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --push: show what would be uploaded, and upload nothing.")
]


def export(
    workspace: WorkspacePath,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to create.", show_default=False)] = None,
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
    title: Title = None,
    licence: License = None,
    push: Push = None,
    private: Private = False,
    dry_run: DryRun = False,
) -> None:
    """Export a self-contained distilled dataset, to a folder (--to), the Hugging Face hub (--push) or both.

    Writes PNGs, tensors, soft labels, Parquet, a card and a training script. With --format pt, writes the three files
    that MTT, TESLA and DATM use instead.

    Examples:

        tesla export my-run --run quick --to out/ --with-test

        tesla export my-run --run quick --to published/ --format pt

        tesla export my-run --run ipc-10 --push alice/digits-distilled --dry-run
    """

    import tempfile

    from engine.runs.workspace import Workspace

    _check(to, push, given=private or dry_run, wrong_test=layout is Layout.PT and with_test)
    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    from engine.tools.exchange.export import exporting  # loads PyTorch: after everything that can fail at once
    from engine.tools.exchange.push import check_push

    if push is not None:
        check_push(push, token=not dry_run)
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp) / "export" if to is None else to
        writing = exporting(
            opened, chosen, folder, iteration=iteration, with_test=with_test, layout=layout.value, title=title,
            licence=licence,
        )  # fmt: skip
        upload = None if push is None or dry_run else Upload(push, private)
        exported = _follow(writing, folder, upload, kept=to is not None)
        _report(exported, chosen.name, to, layout)
        if push is not None:
            _report_push(folder, push, dry_run)


def _check(to: Path | None, push: str | None, *, given: bool, wrong_test: bool) -> None:
    """Check options that do not go together; `given`: those that only --push has.

    Raises:
        UsageError: they do not.
    """
    from engine.errors import UsageError

    if wrong_test:
        raise UsageError("--with-test cannot be used with --format pt.", "Published code loads the real images itself.")
    if push is None and (to is None or given):
        what = "--private and --dry-run are options of --push" if given else "There is nowhere to export to"
        raise UsageError(f"{what}.", "Give --to FOLDER to write a folder, --push OWNER/NAME to upload it, or both.")


@dataclass(frozen=True)
class Upload:
    """Where an export is uploaded to."""

    repo: str
    private: bool


def _follow(
    writing: "Generator[Event, None, Exported]", folder: Path, upload: Upload | None, *, kept: bool
) -> "Exported":
    """Write it, and upload it.

    Raises:
        typer.Exit: a signal stopped it.
    """
    from rich.console import Console

    from engine.tools.exchange.push import push_folder
    from tesla_tui.cli.follow import follow
    from tesla_tui.render.words import literal

    made: list[Exported] = []

    def work() -> "Generator[Event, None, None]":
        found = yield from writing
        made.append(found)
        if upload is not None:
            yield from push_folder(folder, upload.repo, private=upload.private)

    code = follow(work(), console := Console())
    if not made or (code and upload is not None):
        what = f"{literal(folder)} is complete; the upload is not" if made and kept else "nothing was written"
        console.print(f"[yellow]Stopped; {what}.[/] Run the same command to start over.", highlight=False)
        raise typer.Exit(code)
    return made[0]


def _report(exported: "Exported", run: str, to: Path | None, layout: Layout) -> None:
    """What was written, and what to do with it."""
    from rich.console import Console

    from engine.errors import quoted
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.words import literal

    console = Console()
    done = "Exported" if to is None else "Wrote"
    place = "" if to is None else f" to [bold]{literal(to)}[/]"
    console.print(
        f"{done} {exported.images} images of {exported.classes} classes{place} "
        f"({run}, iteration {exported.iteration}){_holding(exported)}.",
        highlight=False,
    )
    if to is None:
        return
    if layout is Layout.PT:
        console.print(f"See {literal(to / 'README.md')} for how to load them.", highlight=False)
        return
    words = f"See {literal(to / 'README.md')}; train on it with:"
    print_commands(console, words, quoted("python", to / "train.py"))


def _report_push(folder: Path, repo: str, dry_run: bool) -> None:
    """Where it was uploaded to; of a dry run, what would have been."""
    from rich.console import Console

    from engine.errors import counted
    from engine.storage.filesystem import format_bytes
    from engine.tools.exchange.push import dataset_url
    from tesla_tui.render.words import literal

    console = Console()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    done = "Would upload" if dry_run else "Uploaded"
    console.print(
        f"{done} {len(sizes)} files ({format_bytes(sum(sizes))}) to {literal(dataset_url(repo))}",
        highlight=False,
        soft_wrap=True,
    )
    for path in sorted(folder.iterdir()) if dry_run else ():
        inside = counted(sum(part.is_file() for part in path.rglob("*")), "file")
        console.print(f"  {literal(path.name)}" + (f"/ ({inside})" if path.is_dir() else ""), highlight=False)


def _holding(exported: "Exported") -> str:
    """How they stand for the images of the run, where that is not one for one."""
    from engine.settings.decoders import formation_words

    if exported.formation > 1:
        return f"; {formation_words(exported.formation)}, decoded in decoded/ and data/"
    if exported.images > exported.stored:
        return f", decoded from {exported.stored} stored ones; each has the label of its stored one"
    return ""

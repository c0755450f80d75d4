"""`tesla show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import ExistingRun, Iteration, WorkspacePath

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.runs.workspace import Workspace
    from tesla_tui.render.grid import ImageGrid


def show(
    workspace: WorkspacePath,
    run: ExistingRun = None,
    iteration: Iteration = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Show only this class (name or number).", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Maximum number of images to show.")] = 100,
    decoded: Annotated[
        bool, typer.Option("--decoded", help="Show the images that networks see (with distill.formation).")
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Write the full grid to this PNG instead.", show_default=False, dir_okay=False),
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option(
            "--film",
            help="Write the images over the iterations to this .gif, .webp or .png (APNG) instead.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Show the synthetic images in the terminal.

    With --png or --film, writes them to a file instead.

    Examples:

        tesla show my-run

        tesla show my-run --run ipc-10 --class Sneaker

        tesla show my-run --iteration 0 --png start.png

        tesla show my-run --run ipc-10 --film ipc-10.webp

        tesla show my-run --run formation-2 --decoded
    """
    from rich.console import Console

    from engine.runs.selection import checkpoint_to_use
    from engine.runs.workspace import Workspace
    from tesla_tui.render.words import literal

    console = Console()
    opened = Workspace(workspace)
    chosen = opened.existing_run(run)
    settings = chosen.frozen().settings
    if film is not None:
        from tesla_tui.render.film import write_film

        _check_alone(png, iteration, class_name)
        frames = write_film(chosen, film, factor=settings.distill.formation if decoded else 1)
        console.print(f"Wrote {literal(film)}: {chosen.name}, {frames} frames.", highlight=False)
        return
    at = checkpoint_to_use(chosen, settings, iteration)
    holding = _holding(settings.distill.formation, decoded)
    if png is not None:
        from engine.runs.gallery import decoded_images
        from engine.runs.preview_frames import enlarged, image_grid
        from engine.runs.preview_writer import save_picture

        gallery = decoded_images(opened, chosen, at, views=decoded)
        save_picture(png, enlarged(image_grid(gallery.pixels, gallery.per_class), gallery.pixels.shape[1]))
        console.print(f"Wrote {literal(png)}: {chosen.name}, iteration {at}{holding}.", highlight=False)
        return
    console.print(f"[bold]{chosen.name}[/], iteration {at}{holding}", highlight=False)
    console.print(grid_of(opened, chosen, at, class_name, most, views=decoded))


def _check_alone(png: Path | None, iteration: int | None, class_name: str | None) -> None:
    """Refuse options that a film has no use for.

    Raises:
        UsageError: one of them is given.
    """
    from engine.errors import UsageError

    for name, value in (("--png", png), ("--iteration", iteration), ("--class", class_name)):
        if value is not None:
            raise UsageError(f"--film cannot be combined with {name}.", "Omit one of them.")


def _holding(factor: int, decoded: bool) -> str:
    """What the pictures are, where they hold several; for the end of a line."""
    from engine.settings.decoders import formation_words

    if factor == 1:
        return ""
    if decoded:
        return f": what networks see, {factor * factor} in a row of each stored picture"
    return f": {formation_words(factor)} (--decoded shows them)"


def grid_of(
    workspace: "Workspace", run: "Run", iteration: int, class_name: str | None, most: int, *, views: bool = False
) -> "ImageGrid":
    """The images of a checkpoint, or all `views` of them, ready to print; of many the first of every class."""
    from engine.errors import UsageError
    from engine.runs.gallery import decoded_images
    from tesla_tui.render.grid import ImageGrid
    from tesla_tui.render.words import clean

    gallery = decoded_images(workspace, run, iteration, views=views)
    ipc = gallery.per_class
    numbers = range(len(gallery.classes))
    if class_name is not None:
        found = [k for k in numbers if class_name in (gallery.classes[k], str(k))]
        if not found:
            known = ", ".join(clean(name) for name in gallery.classes[:20])
            raise UsageError(
                f"There is no class {class_name!r}.", f"Classes: {known}{', ...' if len(gallery.classes) > 20 else ''}"
            )
        order = [found[0] * ipc + i for i in range(ipc)]
    elif len(gallery.pixels) <= most:
        order = list(range(len(gallery.pixels)))
    else:
        order = [k * ipc + i for i in range(ipc) for k in numbers][:most]
    names = [gallery.classes[place // ipc] for place in order]
    return ImageGrid(gallery.pixels[order[:most]], names[:most])

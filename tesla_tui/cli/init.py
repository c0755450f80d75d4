"""`tesla init`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import Overrides


def init(
    workspace: Annotated[Path, typer.Argument(help="Folder to make.", metavar="WORKSPACE", show_default=False)],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="digits, fashion-mnist, mnist, cifar10, cifar100, tiny-imagenet, imagenet, the path of a folder with "
            "one subfolder per class, or a Hugging Face id owner/name.",
        ),
    ] = "digits",
    overrides: Overrides = None,
) -> None:
    """Make a workspace with a commented tesla.toml.

    Examples:

        tesla init my-run --dataset fashion-mnist

        tesla init cats --dataset ~/pictures/cats --set dataset.resolution=64
    """
    from rich.console import Console

    from engine.data.sources import find_source
    from engine.settings import resolve_settings
    from engine.settings.layers import parse_override
    from engine.workspace import Workspace
    from tesla_tui.render.words import program

    chosen = [f'dataset.name="{dataset}"']
    path = Path(dataset).expanduser()
    if path.is_dir() and ("/" in dataset or dataset not in _known()):
        chosen = ['dataset.name="folder"', f"dataset.path={_quoted(str(path.resolve()))}"]
    elif dataset.startswith(("/", "./", "../", "~")):
        from engine.errors import DataError

        raise DataError(f"--dataset {dataset}: there is no such folder.", "It must hold one subfolder per class.")
    extra = list(overrides or [])
    effective = resolve_settings(overrides=[*chosen, *extra])
    settings = effective.settings
    local = None if settings.dataset.path is None else workspace / Path(settings.dataset.path).expanduser()
    source = find_source(settings.dataset.name, local, settings.dataset.on_bad_file)
    active = {parse_override(text)[0] for text in [*chosen, *extra]}
    made = Workspace.create(workspace, effective, active)
    console = Console()
    console.print(f"Made [bold]{made.folder}[/] for {source.description}.", highlight=False)
    console.print(f"Settings to edit: {made.toml}", highlight=False)
    console.print(f"Next: [bold]{program()} run {made.folder} --ipc 1[/]", highlight=False)


def _known() -> tuple[str, ...]:
    from engine.data.sources import KNOWN

    return KNOWN


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)

"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

WorkspacePath = Annotated[Path, typer.Argument(help="The workspace's folder.", metavar="WORKSPACE", show_default=False)]
Ipc = Annotated[
    int | None, typer.Option("--ipc", min=1, help="Images per class. The run is called ipc-N unless --run names it.")
]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run.", show_default=False)]
ExistingRun = Annotated[
    str | None, typer.Option("--run", help="Name of the run; without it the one written to last.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting as key=value, e.g. distill.steps=30. Repeatable.", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Iteration = Annotated[
    int | None, typer.Option("--iteration", min=0, help="Checkpoint to take; without it the selected one.")
]

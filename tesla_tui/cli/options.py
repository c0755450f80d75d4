"""Arguments and options shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

WorkspacePath = Annotated[Path, typer.Argument(help="Workspace folder.", metavar="WORKSPACE", show_default=False)]
Ipc = Annotated[
    int | None, typer.Option("--ipc", min=1, help="Images per class. The run is named ipc-N unless --run is given.")
]
RunName = Annotated[str | None, typer.Option("--run", help="Run name.", show_default=False)]
ExistingRun = Annotated[
    str | None, typer.Option("--run", help="Run name. Default: the most recent run.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, e.g. distill.steps=30. Repeatable.", metavar="KEY=VALUE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Iteration = Annotated[
    int | None, typer.Option("--iteration", min=0, help="Checkpoint to use. Default: the selected one.")
]

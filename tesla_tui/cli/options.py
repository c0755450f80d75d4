"""Arguments and options shared by several commands."""

import os
import sys
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from engine.runs.workspace import Workspace

NETWORKS = (
    "convnet, convnet-batchnorm, convnet-layernorm, convnet-nonorm, resnet18, vgg11, alexnet, lenet, mlp, vit, "
    "vit-benchmark"
)
"""By name; any other network is an import path. Help is shown without loading `engine.networks`."""
NETWORK_HELP = f"{NETWORKS} or package.module:callable."


def workspace_here() -> Path | None:
    """The workspace that the current folder is, or is in; None if there is none."""
    here = Path.cwd()
    above = next((folder for folder in (here, *here.parents) if (folder / "tesla.toml").is_file()), None)
    return None if above is None else Path(os.path.relpath(above))


def _workspace() -> Path:
    """For a command line without a workspace.

    Raises:
        UsageError: the current folder is in none.
    """
    from engine.errors import UsageError, tesla

    found = workspace_here()
    if found is None:
        words = takewhile(lambda word: not word.startswith("-"), sys.argv[1:])  # the command, as nothing else was given
        raise UsageError(
            "No workspace was given, and the current folder is not in one.",
            f"Give one, as in: {tesla(*words, 'my-run')}",
        )
    return found


WorkspacePath = Annotated[
    Path,
    typer.Argument(
        help="Workspace folder. Default: the one that the current folder is in.", metavar="WORKSPACE",
        show_default=False, default_factory=_workspace,
    ),
]  # fmt: skip
GivenWorkspace = Annotated[Path, typer.Argument(help="Workspace folder.", metavar="WORKSPACE", show_default=False)]
"""For commands with more arguments."""
Ipc = Annotated[int | None, typer.Option("--ipc", min=1, help="Images per class.")]
RunName = Annotated[str | None, typer.Option("--run", help="Run name. Default: ipc-N.", show_default=False)]
ExistingRun = Annotated[
    str | None, typer.Option("--run", help="Run name. Default: the most recent run.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, e.g. distill.steps=30. Repeatable.", metavar="KEY=VALUE"),
]
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds", min=1, max=1000,
        help="Runs that differ in their seed, NAME-seed-0 and so on. They share the teachers. The result is their "
        "mean with its 95 % interval.",
    ),
]  # fmt: skip
OwnTeachers = Annotated[
    bool, typer.Option("--own-teachers", help="With --seeds: train teachers for every seed.")
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Iteration = Annotated[
    int | None, typer.Option("--iteration", min=0, help="Checkpoint to use. Default: the selected one.")
]

DATASETS = "{datasets}"
"""In a help text: the names of all datasets, those of plugins too."""


class NamesCommand(TyperCommand):
    """A command whose help lists datasets. They are looked up only when it is shown: `tesla --help` stays fast."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help."""
        for parameter in self.params:
            parameter.help = with_names(getattr(parameter, "help", None) or "")  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def with_names(text: str) -> str:
    """A help text with the names in it."""
    if DATASETS not in text:
        return text
    from engine.settings import dataset_names

    return text.replace(DATASETS, ", ".join(name for name in dataset_names() if name != "folder"))


def check_own_teachers(seeds: int, own_teachers: bool) -> None:
    """Refuse `--own-teachers` without several seeds.

    Raises:
        UsageError: there is a single run.
    """
    from engine.errors import UsageError

    if own_teachers and seeds == 1:
        raise UsageError("--own-teachers needs several seeds.", "Add --seeds 5, or leave it out.")


def check_watched(workspace: "Workspace | None", run: str | None, ipc: int | None, watch: bool) -> None:
    """Refuse `--watch` for a run that is not there: without an engine it would never be.

    Raises:
        UsageError: there is no such run (the message lists the existing ones).
    """
    name = run if run is not None or ipc is None else f"ipc-{ipc}"
    if watch and workspace is not None and name is not None:
        workspace.existing_run(name)

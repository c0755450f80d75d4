"""Arguments and options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

NETWORKS = (
    "convnet, convnet-batchnorm, convnet-layernorm, convnet-nonorm, resnet18, vgg11, alexnet, lenet, mlp, vit, "
    "vit-benchmark"
)
"""By name; any other network is an import path. Help is shown without loading `engine.networks`."""
NETWORK_HELP = f"{NETWORKS} or package.module:callable."

WorkspacePath = Annotated[Path, typer.Argument(help="Workspace folder.", metavar="WORKSPACE", show_default=False)]
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

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

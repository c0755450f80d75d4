"""`tesla doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def doctor(
    workspace: Annotated[
        Path | None, typer.Argument(help="Also check every file of this workspace.", show_default=False)
    ] = None,
) -> None:
    """Check the machine, the cache and, if given, every checksum of a workspace. Exit code 1 if something is wrong.

    Example:

        tesla doctor my-run
    """
    from rich.console import Console

    from engine.doctor import examine_machine, examine_workspace
    from engine.errors import ExitCode
    from engine.workspace import Workspace

    console = Console()
    opened = Workspace(workspace) if workspace is not None else None
    bad = _print(console, "Machine", examine_machine())
    if opened is not None:
        bad += _print(console, f"Workspace {workspace}", examine_workspace(opened))
    if bad:
        console.print(f"[bold red]{bad} problem{'s' if bad > 1 else ''}.[/]")
        raise typer.Exit(ExitCode.FAILURE)
    console.print("[bold green]Everything is in order.[/]")


def _print(console: "Console", title: str, findings: "list[tuple[bool, str, str]]") -> int:
    from rich.text import Text

    from tesla_tui.render.words import clean

    console.print(Text(clean(title), style="bold"))
    for good, what, words in findings:
        mark = ("  ✓ ", "green") if good else ("  ✗ ", "bold red")
        console.print(Text.assemble(mark, clean(f"{what}: {words}").replace("\n", " ")))
    return sum(not good for good, _, _ in findings)

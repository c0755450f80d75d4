"""`tesla doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from engine.tools.doctor import Finding


def doctor(
    workspace: Annotated[
        Path | None, typer.Argument(help="Also check every file in this workspace.", show_default=False)
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Fix what can be fixed: remove leftovers of killed processes, rebuild what can be rebuilt, and move "
            "damaged files to a folder named damaged next to them. Damaged files are never deleted.",
        ),
    ] = False,
) -> None:
    """Check the machine, the cache and a workspace.

    With WORKSPACE, verifies every checksum in it. Exits with 0 if no problems are left, 1 otherwise.

    Examples:

        tesla doctor my-run

        tesla doctor my-run --repair
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.liveness import LOOK
    from engine.storage.beats import LATE
    from engine.tools.doctor import examine_machine, examine_workspace, runs_in
    from tesla_tui.cli.drivers import watch
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command

    console = Console()
    groups = [("Machine", examine_machine)]
    if workspace is not None:
        there = workspace
        # Before a repair it must be certain that a driver is dead. Of this machine's that is known at once.
        watch(runs_in(there), LATE + LOOK if repair else LOOK)
        groups.append((f"Workspace {workspace}", lambda: examine_workspace(there)))
    bad = can = 0
    for title, examine in groups:
        findings = examine()
        _print(console, title, findings)
        if repair and any(finding.repair for finding in findings):
            _repair(console, findings)
            findings = examine()
            _print(console, f"{title}, after the repair", [finding for finding in findings if not finding.good])
        bad += sum(not finding.good for finding in findings)
        can += sum(not finding.good and finding.repair is not None for finding in findings)
    if bad:
        console.print(f"[bold red]{bad} problem{'s' if bad > 1 else ''}.[/]")
        if can and not repair:
            where = [] if workspace is None else [workspace]
            print_commands(console, "Fix what can be fixed with:", command("doctor", *where, "--repair"))
        raise typer.Exit(ExitCode.FAILURE)
    console.print("[bold green]No problems found.[/]")


def _print(console: "Console", title: str, findings: "list[Finding]") -> None:
    from rich.text import Text

    from tesla_tui.render.words import clean

    if findings:
        console.print(Text(clean(title), style="bold"))
    for finding in findings:
        mark = ("  ✓ ", "green") if finding.good else ("  ✗ ", "bold red")
        console.print(Text.assemble(mark, clean(f"{finding.what}: {finding.words}").replace("\n", " ")))


def _repair(console: "Console", findings: "list[Finding]") -> None:
    from rich.text import Text

    from engine.errors import TeslaError
    from tesla_tui.render.words import clean

    console.print(Text("Repair", style="bold"))
    for finding in findings:
        if finding.repair is None:
            continue
        try:
            words, mark = finding.repair(), ("  ✓ ", "green")
        except (TeslaError, OSError) as error:
            words, mark = str(error), ("  ✗ ", "bold red")
        said = clean(f"{finding.what}: {finding.words} ").replace("\n", " ")
        console.print(Text.assemble(mark, said, (clean(words).replace("\n", " "), "bold")))

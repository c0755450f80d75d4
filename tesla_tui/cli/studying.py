"""What the commands of `tesla study` do alike: drive, print, write."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tesla_tui.cli.options import check_own_teachers

if TYPE_CHECKING:
    from rich.console import Console

    from engine.events import Event
    from engine.runs.run import Run
    from engine.runs.workspace import Workspace
    from engine.tools.studies import Outcome
    from engine.tools.studies.groups import Plan


def study_plan(seeds: int, own_teachers: bool, whole: bool) -> "Plan":
    """What the options of a study of runs ask for."""
    from engine.tools.studies.groups import Plan
    from engine.tools.studies.seeds import Seeds

    check_own_teachers(seeds, own_teachers)
    return Plan(Seeds(seeds, own_teachers), whole)


def named_runs(workspace: "Workspace", names: list[str] | None) -> "list[Run]":
    """The runs named on the command line, where NAME includes NAME-seed-0 and so on; or every run with a checkpoint.

    But for runs on the whole dataset, which have no set of their own.
    """
    from rich.console import Console

    from tesla_tui.render.words import literal

    if names:
        return [run for name in dict.fromkeys(names) for run in _of_name(workspace, name)]
    found = []
    for run in workspace.runs():
        if words := run.broken:
            Console(stderr=True).print(f"[yellow]{run.name} is left out:[/] {literal(words)}", highlight=False)
        elif run.checkpoints() and not run.frozen().settings.traits.all_images:
            found.append(run)
    return found


def _of_name(workspace: "Workspace", name: str) -> "list[Run]":
    """The run of that name, or the runs of all seeds that share it."""
    from engine.tools.studies.seeds import NAMED

    seeds = [(found, run) for run in workspace.runs() if (found := NAMED.fullmatch(run.name)) and found[1] == name]
    if workspace.run(name).exists or not seeds:
        return [workspace.existing_run(name)]
    return [run for _, run in sorted(seeds, key=lambda one: int(one[0][2]))]


def answer(folder: Path, name: str, begin: "Callable[[Workspace, str], Generator[Event, Any, Outcome]]") -> None:
    """Drive a study with progress; print its table, write its files, draw its charts."""
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.workspace import Workspace
    from engine.tools.studies.written import study_folder, write_outcome
    from tesla_tui.cli.follow import follow
    from tesla_tui.render.study import print_outcome
    from tesla_tui.render.study_chart import draw_charts

    console = Console()
    opened = Workspace(folder)
    target = study_folder(opened, opened.run(name).name)  # a name for a run is one for a study
    found: list[Outcome] = []

    def answering() -> "Generator[Event, Any, None]":
        found.append((yield from begin(opened, name)))

    code = follow(answering(), console)
    if code is not ExitCode.OK:
        console.print("[yellow]Stopped; what was measured is kept.[/] Run the same command to resume.", highlight=False)
        raise typer.Exit(code)
    outcome = found[0]
    print_outcome(console, outcome)
    write_outcome(target, outcome)
    charts = draw_charts(outcome, target)
    _say_where(console, target, len(charts) // 2)


def _say_where(console: "Console", target: Path, charts: int) -> None:
    from tesla_tui.render.words import literal

    if charts == 0:
        console.print(f"Wrote table.md and study.json to [bold]{literal(target)}[/].", highlight=False)
        return
    words = f"{charts} charts as PNG and SVG" if charts > 1 else "a chart as PNG and SVG"
    console.print(f"Wrote table.md, study.json and {words} to [bold]{literal(target)}[/].", highlight=False)

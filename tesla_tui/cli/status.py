"""`tesla status`."""

import typer

from tesla_tui.cli.options import Json, WorkspacePath


def status(workspace: WorkspacePath, as_json: Json = False) -> None:
    """List the runs of a workspace.

    Shows state, progress, time left and accuracy.

    Examples:

        tesla status my-run

        tesla status my-run --json | jq '.runs[0].iteration'
    """
    import json
    from contextlib import suppress
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from engine.errors import TeslaError
    from engine.runs.data_record import read_summary
    from engine.runs.provenance import imported_buffer, imported_folders
    from engine.runs.status import read_statuses
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.drivers import driver_name, watch
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import callable_here, command
    from tesla_tui.render.tables import is_bounded, print_table, runs_table
    from tesla_tui.render.words import clean, literal, teachers_words

    opened = Workspace(workspace)
    silent = {run.name: driver_name(run) for run in watch(opened.runs())}
    runs = read_statuses(opened.runs())
    buffers = []
    for folder in imported_folders(opened.folder / "buffers"):
        with suppress(TeslaError):  # `tesla doctor` says what is wrong with it
            buffers.append(imported_buffer(folder))
    dataset, trouble = read_summary(opened.folder), None
    try:
        opened.settings(teachers=False)
    except TeslaError as error:  # the runs have their own settings, a new one cannot start
        trouble = f"{error.message} {error.hint}".strip()
    if as_json:
        facts = {
            "workspace": str(workspace),
            "dataset": None if dataset is None else asdict(dataset),
            "settings_error": trouble,
            "runs": [asdict(run) for run in runs],
            "imported_buffers": [asdict(buffer) for buffer in buffers],
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    if dataset is not None:
        console.print(Text(clean(dataset.words), style="dim"))
    if trouble is not None:
        console.print(f"[red]Settings:[/] {literal(trouble)}", highlight=False)
    for buffer in buffers:
        console.print(f"Teachers [bold]{buffer.name}[/]: {literal(buffer.provenance)}", highlight=False)
    if not runs:
        words = f"{literal(workspace)} has no runs yet. Start one with:"
        print_commands(console, words, command("run", workspace, "--ipc", 1))
        return
    print_table(console, runs_table(runs, console))
    for words in dict.fromkeys(f"{r.teachers.buffer}: {teachers_words(r.teachers)}" for r in runs if r.teachers):
        console.print(Text(f"Teachers {clean(words)}"), soft_wrap=not is_bounded(console))
    for run in runs:
        for outcome in dict.fromkeys(outcome.words for outcome in run.outcomes):
            console.print(Text(f"{run.name}: {clean(outcome)}"), soft_wrap=not is_bounded(console))
        if run.name in silent and run.state == "stalled":
            words = f"{run.name}: no heartbeat of {silent[run.name]}. If that process is gone, resume with:"
            print_commands(console, f"[yellow]{words}[/]", command("run", workspace, "--run", run.name))
        if run.state == "interrupted" and run.message:
            console.print(Text(f"{run.name}: {clean(run.message)}", style="yellow"))
        if run.state in ("stopped", "interrupted"):
            print_commands(console, f"Resume {run.name} with:", command("run", workspace, "--run", run.name))
        elif run.state in ("failed", "broken"):
            console.print(f"[red]{run.name}:[/] {literal(callable_here(run.message))}", highlight=False)

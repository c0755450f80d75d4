"""`tesla run` and `tesla teach`."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import Ipc, Overrides, RunName, WorkspacePath
from tesla_tui.render.commands import command
from tesla_tui.render.words import literal, saved_words

if TYPE_CHECKING:
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.run import Run
    from engine.runs.workspace import Workspace
    from engine.runtime.distributed.environment import RankEnvironment
    from engine.settings import EffectiveSettings


def run(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    run: RunName = None,
    overrides: Overrides = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Run in the background, in a session that survives this connection."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes on this machine that share the work: one per CUDA device, or parts of the CPU. "
            "For several machines, use torchrun.",
            show_default="1",
        ),
    ] = None,
) -> None:
    """Start or resume a run.

    Does whatever is missing: data, teachers, distillation, evaluation. Ctrl-C saves and stops; run the same command
    to resume.

    Examples:

        tesla run my-run --ipc 10

        tesla run my-run --ipc 10 --run paper-gradient --set distill.gradient=paper

        tesla run my-run --ipc 10 --run dm --set distill.method=dm

        tesla run my-run --ipc 10 --detach

        tesla run my-run --ipc 10 --workers 4

        torchrun --nproc-per-node 4 -m -- tesla_tui.main run my-run --ipc 10
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.status import run_status
    from engine.runs.workspace import Workspace
    from engine.runtime.distributed.environment import this_place
    from engine.storage.atomic import sweep
    from tesla_tui.cli.result import print_commands, print_result
    from tesla_tui.process.detached import start_detached, worker_arguments
    from tesla_tui.process.workers import LAUNCHER, check_count, launch

    place = this_place()
    check_count(workers, place)
    console = Console(quiet=not place.writes)
    opened = Workspace(workspace)
    overrides_given = tuple(overrides or ())
    chosen = opened.run(run) if run is not None else None
    effective = opened.settings(ipc=ipc, overrides=overrides_given, run=chosen)
    if chosen is None:
        chosen = opened.run(f"ipc-{effective.settings.distill.ipc}")
        effective = opened.settings(ipc=effective.settings.distill.ipc, overrides=overrides_given, run=chosen)
    if chosen.exists:
        chosen.check(effective)
        status = run_status(chosen)
        if status.finished and chosen.frozen().settings == effective.settings:
            with suppress(OSError):  # what a kill at the very end left
                sweep(chosen.folder)
            console.print(f"[bold green]{chosen.name} is finished.[/]", highlight=False)
            print_result(console, opened, chosen)
            if status.iterations:
                longer = f"distill.iterations={2 * status.iterations}"
                again = command("run", workspace, "--run", chosen.name, "--set", longer)
                print_commands(console, "To continue for more iterations:", again)
            return
    options = ["--ipc", str(effective.settings.distill.ipc)]
    options += [word for text in overrides_given for word in ("--set", text)]
    if detach:
        options += ["--workers", str(workers)] if workers else []
        pid = start_detached(workspace, chosen, options)
        words = f"[bold]{chosen.name}[/] is running in the background (process {pid})."
        where = (workspace, "--run", chosen.name)
        print_commands(console, f"{words} Watch or stop it with:", command("tui", *where), command("stop", *where))
        return
    if place.size == 1:
        console.print(f"[bold]{chosen.name}[/] in {literal(workspace)}", highlight=False)
    # Both load PyTorch: after everything that can fail at once.
    if workers is not None and workers > 1:
        code = launch(workers, worker_arguments(workspace, chosen, options), effective.settings.compute)
    else:
        code = _driven(opened, chosen, effective, place, console)
    if place.size > 1 and (not place.writes or LAUNCHER in os.environ):  # who started the workers speaks last
        raise typer.Exit(code)
    if code is not ExitCode.OK:
        what = saved_words(max(chosen.checkpoints(), default=None)) if chosen.exists else "nothing to save yet"
        if place.size > 1:
            console.print(f"[yellow]Stopped; {what}.[/] Run the same command to resume.", highlight=False)
            raise typer.Exit(code)
        again = _same(workspace, ipc, run, overrides_given, workers)
        print_commands(console, f"[yellow]Stopped; {what}.[/] Resume with:", again)
        raise typer.Exit(code)
    print_result(console, opened, chosen)


def _driven(
    workspace: "Workspace", run: "Run", effective: "EffectiveSettings", place: "RankEnvironment", console: "Console"
) -> "ExitCode":
    """The work of this process, to the end or to a signal."""
    from engine.errors import ExitCode, WorkersStoppedError
    from engine.runtime.distributed.process_group import joined
    from engine.session.session import assist, drive
    from tesla_tui.cli.follow import follow

    try:
        with joined(place) as ranks:
            events = drive if ranks.writes else assist
            code = follow(events(workspace, run, effective, ranks=ranks), console)
            if code is not ExitCode.OK:
                raise WorkersStoppedError("This worker was asked to stop.", code)
    except WorkersStoppedError as stop:
        return stop.exit_code
    return ExitCode.OK


def teach(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    overrides: Overrides = None,
) -> None:
    """Train the teacher trajectories only.

    To share the work, start it in several processes.

    Example:

        tesla teach my-run --ipc 10
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.follow import follow
    from tesla_tui.cli.result import print_commands

    console = Console()
    opened = Workspace(workspace)
    effective = opened.settings(ipc=ipc, overrides=tuple(overrides or ()))
    from engine.session.session import teach as taught

    code = follow(taught(opened, effective.settings), console)
    if code is not ExitCode.OK:
        console.print("[yellow]Stopped; trained epochs are saved.[/] Run the same command to resume.", highlight=False)
        raise typer.Exit(code)
    go_on = command("run", workspace, "--ipc", effective.settings.distill.ipc)
    print_commands(console, "The teachers are trained. Next:", go_on)


def _same(workspace: object, ipc: int | None, run: str | None, overrides: tuple[str, ...], workers: int | None) -> str:
    words = ["run", str(workspace)]
    words += ["--ipc", str(ipc)] if ipc is not None else []
    words += ["--run", run] if run is not None else []
    words += ["--workers", str(workers)] if workers is not None else []
    for text in overrides:
        words += ["--set", text]
    return command(*words)

"""`tesla run` and `tesla teach`."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import counted
from tesla_tui.cli.options import Ipc, Overrides, OwnTeachers, RunName, Seeds, WorkspacePath, check_own_teachers
from tesla_tui.cli.profile import Profile, with_profile
from tesla_tui.cli.quick import Quick, quick_name, say_full, with_quick
from tesla_tui.render.commands import command, set_options
from tesla_tui.render.words import literal, saved_words

if TYPE_CHECKING:
    from pathlib import Path

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
    profile: Profile = None,
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
    seeds: Seeds = 1,
    own_teachers: OwnTeachers = False,
    quick: Quick = False,
) -> None:
    """Start or resume a run.

    Does whatever is missing: data, teachers, distillation, evaluation. Ctrl-C saves and stops; run the same command
    to resume. With --seeds 5 there are five runs, NAME-seed-0 to NAME-seed-4, and a mean with its interval.

    Examples:

        tesla run my-run --quick

        tesla run my-run --ipc 10

        tesla run my-run --ipc 10 --run paper-gradient --set distill.gradient=paper

        tesla run my-run --ipc 10 --run dm --set distill.method=dm

        tesla run my-run --ipc 10 --run mtt --profile mtt

        tesla run my-run --ipc 10 --detach

        tesla run my-run --ipc 10 --workers 4

        tesla run my-run --ipc 10 --seeds 5

        torchrun --nproc-per-node 4 -m -- tesla_tui.main run my-run --ipc 10
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.workspace import Workspace
    from engine.runtime.distributed.environment import this_place
    from tesla_tui.cli.result import print_result
    from tesla_tui.process.detached import worker_arguments
    from tesla_tui.process.speaker import LAUNCHER
    from tesla_tui.process.workers import check_count, launch

    place = this_place()
    check_count(workers, place)
    console = Console(quiet=not place.writes)
    opened = Workspace(workspace)
    typed = given = with_profile(overrides, profile)
    check_own_teachers(seeds, own_teachers)
    if quick:
        run = quick_name(run, ipc)
        given = with_quick(opened, run, ipc, given, profile, console)
    if seeds > 1:
        code = _seeds(workspace, opened, run, ipc, given, (seeds, own_teachers), workers, detach, place, console)
        if code is not ExitCode.OK:
            raise typer.Exit(code)
        return
    chosen, effective = chosen_run(opened, run, ipc, given)
    if _is_finished(opened, chosen, effective, console):
        return
    options = ["--ipc", str(effective.settings.distill.ipc), *set_options(given)]
    if detach:
        _detach(workspace, chosen, [*options, *(["--workers", str(workers)] if workers else [])], console)
        return
    if place.size == 1:
        inferred = _inferred(opened.settings(overrides=given)) if ipc is None and run is None else ""
        console.print(f"[bold]{chosen.name}[/] in {literal(workspace)}{inferred}", highlight=False)
    # Both load PyTorch: after everything that can fail at once.
    if workers is not None and workers > 1:
        code = launch(workers, worker_arguments(workspace, chosen.name, options), effective.settings.compute)
    else:
        code = _driven(opened, chosen, effective, place, console)
    if place.size > 1 and (not place.writes or LAUNCHER in os.environ):  # who started the workers speaks last
        raise typer.Exit(code)
    if code is not ExitCode.OK:
        again = None if place.size > 1 else _same(workspace, ipc, run, typed, workers, quick)
        _say_stopped(chosen, again, console)
        raise typer.Exit(code)
    print_result(console, opened, chosen)
    if quick:
        say_full(console, workspace, ipc, typed)


def _inferred(effective: "EffectiveSettings") -> str:
    """How many images per class there are, of themselves, and why."""
    count, origin = effective.settings.distill.ipc, effective.origins["distill.ipc"]
    return f": {counted(count, 'image')} per class ({literal(origin)}); --ipc sets another number"


def _seeds(
    folder: "Path", workspace: "Workspace", name: str | None, ipc: int | None, overrides: tuple[str, ...],
    asked: tuple[int, bool], workers: int | None, detach: bool, place: "RankEnvironment", console: "Console",
) -> "ExitCode":  # fmt: skip
    """Several runs that differ in their seed, one after the other, here or in the background."""
    from engine.errors import ExitCode
    from engine.tools.studies.seeds import Seeds as Plan
    from tesla_tui.cli.result import print_commands
    from tesla_tui.cli.seeds import Planned, check_alone, drive_series, series_of, unfinished
    from tesla_tui.process.detached import start_detached, worker_arguments
    from tesla_tui.process.workers import launch

    check_alone(place.size)
    series, planned = series_of(folder, workspace, name, ipc, overrides, Plan(*asked), workers)
    left = unfinished(planned)
    if detach and left:
        first = left[0][0]
        pid = start_detached(folder, first, series.options, series.name)
        words = f"{len(left)} runs, the first is [bold]{first.name}[/], run one after the other in the background "
        words += f"(process {pid}). Watch them, stop them, or print their mean when they are finished:"
        commands = (command("tui", folder), command("stop", folder), series.again)
        print_commands(console, words, *commands)
        return ExitCode.OK

    def drive(one: Planned) -> ExitCode:
        run, effective, given = one
        if workers is None or workers == 1:
            return _driven(workspace, run, effective, place, console)
        options = ["--ipc", str(series.ipc), *set_options(given)]
        return launch(workers, worker_arguments(folder, run.name, options), effective.settings.compute)

    return drive_series(workspace, series, planned, drive, console)


def chosen_run(
    workspace: "Workspace", name: str | None, ipc: int | None, overrides: tuple[str, ...]
) -> tuple["Run", "EffectiveSettings"]:
    """The run that is asked for, `ipc-N` by default, and its settings."""
    if name is None:
        ipc = workspace.settings(ipc=ipc, overrides=overrides).settings.distill.ipc
        name = f"ipc-{ipc}"
    run = workspace.run(name)
    return run, workspace.settings(ipc=ipc, overrides=overrides, run=run)


def _is_finished(workspace: "Workspace", run: "Run", effective: "EffectiveSettings", console: "Console") -> bool:
    """Whether nothing is left to do. Then the result is printed, and how to continue.

    Raises:
        UsageError: the run exists with settings that cannot change.
    """
    from engine.runs.status import run_status
    from tesla_tui.cli.result import print_commands, print_result

    if not run.exists:
        return False
    run.check(effective)
    status = run_status(run)
    if not status.finished or run.frozen().settings != effective.settings:
        return False
    run.sweep()
    console.print(f"[bold green]{run.name} is finished.[/]", highlight=False)
    print_result(console, workspace, run)
    if status.iterations:
        longer = f"distill.iterations={2 * status.iterations}"
        again = command("run", workspace.folder, "--run", run.name, "--set", longer)
        print_commands(console, "To continue for more iterations:", again)
    return True


def _detach(workspace: "Path", run: "Run", options: list[str], console: "Console") -> None:
    from tesla_tui.cli.result import print_commands
    from tesla_tui.process.detached import start_detached

    pid = start_detached(workspace, run, options)
    words = f"[bold]{run.name}[/] is running in the background (process {pid})."
    where = (workspace, "--run", run.name)
    print_commands(console, f"{words} Watch or stop it with:", command("tui", *where), command("stop", *where))


def _say_stopped(run: "Run", again: str | None, console: "Console") -> None:
    """What is saved, and the command that resumes; None: the launcher's own."""
    from tesla_tui.cli.result import print_commands

    what = saved_words(max(run.checkpoints(), default=None)) if run.exists else "what is decoded is kept"
    if again is None:
        console.print(f"[yellow]Stopped; {what}.[/] Run the same command to resume.", highlight=False)
    else:
        print_commands(console, f"[yellow]Stopped; {what}.[/] Resume with:", again)


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
    profile: Profile = None,
) -> None:
    """Train the teacher trajectories only.

    To share the work, start it in several processes.

    Examples:

        tesla teach my-run --ipc 1 --set teachers.count=3

        tesla teach my-run --ipc 10
    """
    from rich.console import Console

    from engine.errors import ExitCode
    from engine.runs.workspace import Workspace
    from tesla_tui.cli.follow import follow
    from tesla_tui.cli.result import print_commands

    console = Console()
    opened = Workspace(workspace)
    effective = opened.settings(ipc=ipc, overrides=with_profile(overrides, profile))
    from engine.session.session import teach as taught

    code = follow(taught(opened, effective.settings), console)
    if code is not ExitCode.OK:
        console.print("[yellow]Stopped; trained epochs are saved.[/] Run the same command to resume.", highlight=False)
        raise typer.Exit(code)
    distil = command("run", workspace, "--ipc", effective.settings.distill.ipc)
    print_commands(console, "The teachers are trained. Next:", distil)


def _same(
    workspace: object, ipc: int | None, run: str | None, overrides: tuple[str, ...], workers: int | None, quick: bool
) -> str:
    """The command that was given, without its defaults."""
    words = ["run", str(workspace)]
    words += ["--ipc", str(ipc)] if ipc is not None else []
    words += ["--run", run] if run is not None else []
    words += ["--workers", str(workers)] if workers is not None else []
    words += ["--quick"] if quick else []
    return command(*words, *set_options(overrides))

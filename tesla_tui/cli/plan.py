"""`tesla plan`."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import Ipc, Json, Overrides, RunName, WorkspacePath
from tesla_tui.cli.profile import Profile, with_profile
from tesla_tui.cli.run import chosen_run

if TYPE_CHECKING:
    from engine.events import Event
    from engine.tools.plan import Plan

PLAN_FORMAT = 1
"""Version of what --json prints."""


def plan(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    run: RunName = None,
    overrides: Overrides = None,
    profile: Profile = None,
    memory: Annotated[
        float | None,
        typer.Option("--memory", min=0, help="Memory limit in GB. Default: what is free now."),
    ] = None,
    disk: Annotated[
        float | None, typer.Option("--disk", min=0, help="Disk limit in GB. Default: what is free now.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Approximate time for each measurement.")] = 4.0,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=1, help="Most seconds for all measurements together. Default: 45; more on a busy machine."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Calculate for another machine, from its published peaks: a100, h100, h200, 4090, a6000 or m-series. "
            "m-series is an Apple M2. Default: measure this one; --seconds and --budget are for that.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate the memory, disk and time a run needs.

    Takes short measurements on this machine, or calculates for another one. Works before the
    download for datasets of known size. Leaves no files in the workspace.

    Examples:

        tesla plan my-run --ipc 1 --seconds 1

        tesla plan my-run --ipc 50

        tesla plan my-run --ipc 50 --set distill.batch=250 --set compute.memory=flat

        tesla plan my-run --ipc 50 --device a100 --profile datm
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from engine.runs.workspace import Workspace
    from tesla_tui.cli.follow import follow

    console = Console()
    opened = Workspace(workspace)
    chosen, effective = chosen_run(opened, run, ipc, with_profile(overrides, profile))
    from engine.tools.plan import (  # loads PyTorch: after everything that can fail at once
        Limits,
        find_machine,
        plan_run,
    )

    limits = Limits(
        memory=None if memory is None else round(memory * 1e9), disk=None if disk is None else round(disk * 1e9)
    )
    machine = find_machine(device) if device is not None else None
    made: list[Plan] = []

    def planning() -> "Generator[Event, None, None]":
        planned = plan_run(opened, chosen, effective, limits=limits, seconds=seconds, budget=budget, machine=machine)
        made.append((yield from planned))

    code = follow(planning(), Console(stderr=True) if as_json else console)
    if not made:
        stopped = "[yellow]Stopped; no plan was made.[/] Run the same command to start over."
        Console(stderr=True).print(stopped, highlight=False)
        raise typer.Exit(code)
    if as_json:
        typer.echo(json.dumps({"format": PLAN_FORMAT, **asdict(made[0])}, indent=2))
        return
    from tesla_tui.render.plan import plan_words

    console.print(plan_words(made[0]))

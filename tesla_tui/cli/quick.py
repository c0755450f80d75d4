"""The option --quick."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from engine.runs.run import Run
    from engine.runs.workspace import Workspace

NAME = "quick"

Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="Get a first result in about two minutes of a CPU core: few teachers, small images and network, few "
        "iterations, by how many images and classes there are. Shows which settings it changes and how long it takes; "
        "--set overrides them. The run is named quick.",
    ),
]


def quick_name(run: str | None, ipc: int | None) -> str:
    """The run's name: not that of the full run."""
    return run or (NAME if ipc is None else f"{NAME}-ipc-{ipc}")


def with_quick(
    workspace: "Workspace", name: str, ipc: int | None, given: tuple[str, ...], profile: str | None, console: "Console"
) -> tuple[str, ...]:
    """The overrides of a command line with those of `--quick` before them, which are said.

    Args:
        workspace: the run's.
        name: of the run, or what the names of several seeds' have in common. One that exists keeps its settings.
        ipc: images per class from the command line.
        given: overrides from the command line.
        profile: the option --profile.
        console: where to say it.

    Raises:
        UsageError: a profile is asked for as well, or the run was started without `--quick`.
    """
    from engine.errors import UsageError
    from engine.settings.overrides import parse_override
    from engine.settings.quick import KEYS, quick_settings
    from tesla_tui.render.words import literal

    if profile is not None and profile != "none":
        raise UsageError(
            f"--quick changes what --profile {profile} fixes.", "Use one of the two: a profile is a whole protocol."
        )
    said = dict(map(parse_override, given))
    existing = _existing(workspace, name)
    if existing is not None:
        earlier = {key: value for key, value in existing.values_from("command line").items() if key in KEYS}
        if not earlier:
            raise UsageError(
                f"The run {existing.name} exists, and was not started with --quick.",
                "Leave out --quick to resume it, or add --run NAME to start another.",
            )
        console.print(f"--quick: {existing.name} exists and keeps its settings.", highlight=False)
        changed = {key: value for key, value in earlier.items() if key not in said}
        return (*(f"{key}={value}" for key, value in changed.items()), *given)
    others = tuple(text for text in given if parse_override(text)[0] not in KEYS)
    sized = {key: value for key, value in said.items() if key in KEYS}
    changed = quick_settings(workspace.settings(ipc=ipc, overrides=others), sized)
    words = ", ".join(f"{key} = {value}" for key, value in changed.items())
    console.print(f"--quick changes {literal(words or 'nothing: the run is as small already')}.", highlight=False)
    overrides = (*(f"{key}={value}" for key, value in changed.items()), *given)
    console.print(_time_words(workspace, ipc, overrides), highlight=False)
    return overrides


def _existing(workspace: "Workspace", name: str) -> "Run | None":
    """The run of that name, or of its first seed; None if there is neither."""
    from engine.tools.studies.seeds import seed_name

    runs = map(workspace.run, (name, seed_name(name, 0)))
    return next((run for run in runs if run.exists), None)


def _time_words(workspace: "Workspace", ipc: int | None, overrides: tuple[str, ...]) -> str:
    """How long a run with these overrides takes, about, and on what."""
    from engine.settings.quick import quick_seconds
    from tesla_tui.render.words import duration

    seconds = quick_seconds(workspace.settings(ipc=ipc, overrides=overrides))
    if seconds is None:
        return "How long that takes is not known for this dataset, method or network; `tesla plan` measures it."
    return f"That takes about {duration(seconds.total)} on one free CPU core, once the images are read."


def say_full(console: "Console", workspace: "Path", ipc: int | None, typed: tuple[str, ...]) -> None:
    """Say how to do the run that this was a preview of."""
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.commands import command, set_options

    count = ["--ipc", ipc] if ipc is not None else []
    again = command("run", workspace, *count, *set_options(typed))
    print_commands(console, "This was a quick run: its accuracy is below what the preset reaches. The full run:", again)

"""`tesla tui`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import Ipc, Overrides, RunName, check_watched, workspace_here


def tui(
    workspace: Annotated[
        Path | None,
        typer.Argument(
            help="Workspace folder. Default: the one that the current folder is in, or a choice of those below it.",
            metavar="WORKSPACE",
            show_default=False,
        ),
    ] = None,
    ipc: Ipc = None,
    run: RunName = None,
    overrides: Overrides = None,
    watch: Annotated[bool, typer.Option("--watch", help="Read-only: start and stop no run.")] = False,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            help="How to draw images: auto, blocks, kitty or sixel (also TESLA_IMAGES).",
            show_default=False,
        ),
    ] = None,
    theme: Annotated[
        str | None,
        typer.Option("--theme", help="tesla-dark, tesla-light, high-contrast, colour-blind, ...", show_default=False),
    ] = None,
) -> None:
    """Run or watch live in the terminal.

    Shows curves, GPU memory, and the images as they change. Starts or resumes the run, or attaches read-only if
    another process is running it. ? shows help, q quits.

    Examples:

        tesla tui my-run --run quick

        tesla tui my-run --ipc 10

        tesla tui my-run --run ipc-10 --watch
    """
    import os
    import sys

    from engine.errors import ExitCode, UsageError, tesla
    from engine.runs.workspace import Workspace
    from tesla_tui.live.preferences import load_preferences

    workspace = workspace or workspace_here()
    opened = Workspace(workspace) if workspace is not None else None
    if opened is None and (ipc is not None or run is not None):
        raise UsageError("--ipc and --run need a workspace.", "Example: tesla tui my-run --ipc 10")
    check_watched(opened, run, ipc, watch)
    preferences = load_preferences()
    changes = {name: value for name, value in (("images", images), ("theme", theme)) if value is not None}
    if images not in (None, "auto", "blocks", "kitty", "sixel"):
        raise UsageError(f"Invalid value for --images: {images}.", "Use auto, blocks, kitty or sixel.")
    preferences = preferences.model_copy(update=changes)
    if "TEXTUAL_DRIVER" not in os.environ:
        why = "there is none here" if not (sys.stdin.isatty() and sys.stdout.isatty()) else ""
        if os.environ.get("TERM") == "dumb":
            why = why or "this one (TERM is dumb) cannot draw"
        if why:
            hint = f"Run it without one: {tesla('run', workspace if workspace is not None else 'my-run')}"
            raise UsageError(f"`tesla tui` needs a terminal, and {why}.", hint)
    from tesla_tui.live.graphics import choose_protocol

    choose_protocol(preferences.images)  # writes to the terminal: before the app starts
    from tesla_tui.live.app import TeslaApp, run_app

    app = TeslaApp(preferences, opened, run=run, ipc=ipc, overrides=tuple(overrides or ()), watch=watch)
    code = run_app(app)
    if code:
        raise typer.Exit(ExitCode(code) if code in set(ExitCode) else 1)

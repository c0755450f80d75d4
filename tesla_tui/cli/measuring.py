"""What all benchmarks share: progress, Ctrl-C, and the file with every sample."""

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.console import Console

from engine.errors import ExitCode
from engine.events import Event
from engine.storage import write_bytes
from tesla_tui.render.display import Display
from tesla_tui.render.words import literal


def watch(events: Generator[Event, None, None]) -> tuple[Console, ExitCode]:
    """Drive a measurement with progress to its end or the first signal, which ends the processes it started.

    Unlike a stage's, a measurement's event may be minutes away: the signal interrupts the wait for it.
    """
    console = Console()
    code = ExitCode.OK

    def terminated(number: int, frame: FrameType | None) -> None:
        raise SystemExit(ExitCode.TERMINATED)

    previous = signal.signal(signal.SIGTERM, terminated)
    try:
        with Display(console) as display:
            for event in events:
                display.show(event)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
        console.print("[yellow]Stopped.[/] What was measured so far:")
    finally:
        events.close()
        signal.signal(signal.SIGTERM, previous)
    return console, code


def finish(console: Console, record: dict[str, Any], path: Path, code: ExitCode) -> None:
    """Write the samples, say where, and end with the exit code."""
    write_bytes(path, (json.dumps(record, indent=1) + os.linesep).encode())
    console.print(f"All samples: [bold]{literal(path)}[/]", highlight=False)
    if code is not ExitCode.OK:
        raise typer.Exit(code)

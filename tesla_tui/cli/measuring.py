"""What all benchmarks share: progress, Ctrl-C, and the file with every sample."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import typer
from rich.console import Console

from engine.errors import ExitCode
from engine.events import Event
from engine.storage.atomic import write_bytes
from tesla_tui.process.signals import CODES, Insistence, caught, end_process
from tesla_tui.render.display import Display
from tesla_tui.render.words import literal


class _Told(BaseException):
    """A signal came. Raised in the middle of a wait, so it is not an error that callers handle."""


def watch(events: Generator[Event, None, None]) -> tuple[Console, ExitCode]:
    """Drive a measurement with progress to its end or the first signal, which ends the processes it started.

    Unlike a stage's, a measurement's event may be minutes away: the signal interrupts the wait for it.
    """
    console = Console()
    code = ExitCode.OK
    insistence = Insistence()

    def told(number: int, frame: FrameType | None) -> None:
        nonlocal code
        if insistence.hear():
            end_process(CODES[signal.Signals(number)], "Ended immediately: nothing was written.")
        if code is ExitCode.OK:
            code = CODES[signal.Signals(number)]
            raise _Told

    with caught(told):
        try:
            with Display(console) as display:
                for event in events:
                    display.show(event)
        except _Told:
            console.print("[yellow]Stopped.[/] Measured so far:")
        finally:
            events.close()
            if code is not ExitCode.OK:
                # The signal may have come between the start of a process and the note of it.
                for left in psutil.Process().children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        left.kill()
    return console, code


def typed() -> str:
    """The command as it was typed, for records."""
    return shlex.join(["tesla", *sys.argv[1:]])


def finish(console: Console, record: dict[str, Any], path: Path, code: ExitCode) -> None:
    """Write the samples, say where, and end with the exit code."""
    write_bytes(path, (json.dumps(record, indent=1) + os.linesep).encode(), tidy=True)
    console.print(f"All samples: [bold]{literal(path)}[/]", highlight=False)
    if code is not ExitCode.OK:
        raise typer.Exit(code)

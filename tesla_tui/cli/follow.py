"""Iterating a session: show every event, stop cleanly on a signal."""

import os
import signal
from collections.abc import Generator
from types import FrameType

from rich.console import Console

from engine.errors import ExitCode
from engine.events import Event
from tesla_tui.render.display import Display

CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.TERMINATED,
}


class Stop:
    """Remembers the first signal; the second one ends the process at once (files are whole at any moment)."""

    def __init__(self, console: Console) -> None:
        self.code: ExitCode | None = None
        self._console = console
        self._previous = {number: signal.signal(number, self._handle) for number in CODES}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = CODES[signal.Signals(number)]
        if self.code is not None:
            self._console.show_cursor(True)
            os._exit(code)
        self.code = code

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def follow(events: Generator[Event, None, object], console: Console) -> ExitCode:
    """Drive a generator of events to its end, or to the first signal. Closing it saves its state.

    Returns:
        OK, or 130/143 when a signal stopped it.
    """
    stop = Stop(console)
    try:
        with Display(console) as display:
            for event in events:
                display.show(event)
                if stop.code is not None:
                    break
            events.close()
    finally:
        stop.restore()
    return stop.code or ExitCode.OK

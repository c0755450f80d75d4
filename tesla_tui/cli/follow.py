"""Iterating a session: show every event, stop cleanly on a signal."""

from collections.abc import Generator

from rich.console import Console

from engine.errors import ExitCode
from engine.events import Event
from tesla_tui.process.signals import Stop
from tesla_tui.render.display import Display


def follow(events: Generator[Event, None, object], console: Console) -> ExitCode:
    """Drive a generator of events to its end, or to the first signal. Closing it saves its state.

    Returns:
        OK, or 129/130/143 when a signal stopped it.
    """
    with Display(console) as display, Stop(lambda words: console.print(words, style="yellow")) as stop:
        for event in events:
            display.show(event)
            if stop.code is not None:
                break
        events.close()
    return stop.code or ExitCode.OK

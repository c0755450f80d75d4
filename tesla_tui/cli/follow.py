"""Iterating a session: show every event, stop cleanly on a signal."""

import time
from collections.abc import Generator
from contextlib import suppress

from rich.console import Console

from engine.errors import ExitCode, SettingsError
from engine.events import Event, RunStarted
from tesla_tui.live.preferences import load_preferences
from tesla_tui.process.signals import Stop
from tesla_tui.render.alert import WORTH, alert_sequence
from tesla_tui.render.display import Display


def follow(events: Generator[Event, None, object], console: Console) -> ExitCode:
    """Drive a generator of events to its end, or to the first signal. Closing it saves its state.

    Returns:
        OK, or 129/130/143 when a signal stopped it.
    """
    began, name = time.monotonic(), "tesla"
    try:
        with Display(console) as display, Stop(lambda words: console.print(words, style="yellow")) as stop:
            for event in events:
                display.show(event)
                if isinstance(event, RunStarted):
                    name = event.run
                if stop.code is not None:
                    break
            events.close()
    except Exception:
        _alert(console, time.monotonic() - began, f"{name} failed")
        raise
    if stop.code is None:
        _alert(console, time.monotonic() - began, f"{name} is finished")
    return stop.code or ExitCode.OK


def _alert(console: Console, seconds: float, words: str) -> None:
    """Tell a user who looks elsewhere, if it took long."""
    if console.is_terminal and seconds >= WORTH:
        with suppress(SettingsError):  # those of the screens: no reason to fail here
            console.file.write(alert_sequence(load_preferences().alert, words))
            console.file.flush()

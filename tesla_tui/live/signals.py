"""Leaving when the process is told to: SIGTERM, SIGINT, and SIGHUP when the terminal is gone.

Python's own handlers and not the event loop's: when a terminal vanishes, a process that writes to it may hang, and
the loop with it. A thread then waits for the engine to save, and ends the process if the screens do not.
"""

import os
import signal
import sys
import termios
import threading
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.errors import ExitCode
from tesla_tui.process.signals import CODES, Insistence

if TYPE_CHECKING:
    from tesla_tui.live.app import TeslaApp

GRACE = 5.0
"""Seconds the screens have to end by themselves once everything is saved."""
PLAIN = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[<u"
"""Back to the shell's screen, with its cursor, without mouse, paste and key reports."""


class SignalHandler:
    """Catches signals from `install` to `restore`. The second one ends the process at once: files are always whole."""

    def __init__(self, app: "TeslaApp") -> None:
        self._app = app
        self._code: ExitCode | None = None
        self._insistence = Insistence()
        self._previous: dict[signal.Signals, Any] = {}
        self._modes: list[Any] | None = None

    def install(self) -> None:
        """Catch them; remember how the terminal was."""
        with suppress(termios.error, ValueError, OSError):
            self._modes = termios.tcgetattr(sys.stdin.fileno())
        self._previous = {number: signal.signal(number, self._handle) for number in CODES}

    def restore(self) -> None:
        """Give them back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = CODES[signal.Signals(number)]
        if self._insistence.hear():
            self._end(code)
        if self._code is not None:
            return
        self._code = code
        gone = number == signal.SIGHUP
        threading.Thread(target=self._leave, args=(code, gone), name="tesla-leaving", daemon=True).start()

    def _leave(self, code: ExitCode, gone: bool) -> None:
        bench = self._app.bench
        engine = bench.engine if bench is not None else None
        if engine is not None:
            engine.stop()
            engine.join()
        if gone:
            os._exit(code)
        self._app.leave_now(code)
        threading.Event().wait(GRACE)
        self._end(code)

    def _end(self, code: ExitCode) -> None:
        if self._modes is not None:
            with suppress(OSError, termios.error):
                os.write(sys.stdout.fileno(), PLAIN.encode())
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._modes)
        os._exit(code)

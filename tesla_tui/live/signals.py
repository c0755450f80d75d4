"""Signals while the live screens run: SIGTERM, SIGINT, and SIGHUP when the terminal is gone.

Python's own handlers, not the event loop's: once a terminal is gone, a write to it may hang for good, and the loop with
it. A thread waits for the engine to save, and ends the process if the screens do not end by themselves.
"""

import os
import signal
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from engine.errors import ExitCode
from tesla_tui.live.engine_thread import EngineThread
from tesla_tui.process.signals import CODES, Insistence

GRACE = 5.0
"""Seconds the screens get to end by themselves once everything is saved."""
PLAIN = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[<u"
"""Restores the shell's screen and cursor; switches mouse, paste and key reports off."""


class SignalHandler:
    """Catches signals from `install` to `restore`. The second one ends the process at once: files are always whole.

    Args:
        engine: the engine that runs in this process, or None.
        leave: ends the screens with an exit code; called from another thread, when everything is saved.
    """

    def __init__(self, engine: Callable[[], EngineThread | None], leave: Callable[[ExitCode], None]) -> None:
        self._engine = engine
        self._leave = leave
        self._code: ExitCode | None = None
        self._insistence = Insistence()
        self._previous: dict[signal.Signals, Any] = {}
        self._modes: list[Any] | None = None

    def install(self) -> None:
        """Start to catch signals; remember the terminal's modes."""
        with suppress(termios.error, ValueError, OSError):
            self._modes = termios.tcgetattr(sys.stdin.fileno())
        self._previous = {number: signal.signal(number, self._handle) for number in CODES}

    def restore(self) -> None:
        """Restore the handlers that were there before."""
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
        threading.Thread(target=self._save_and_leave, args=(code, gone), name="tesla-signals", daemon=True).start()

    def _save_and_leave(self, code: ExitCode, gone: bool) -> None:
        engine = self._engine()
        if engine is not None:
            engine.stop()
            engine.join()
        if gone:
            os._exit(code)
        self._leave(code)
        threading.Event().wait(GRACE)
        self._end(code)

    def _end(self, code: ExitCode) -> None:
        if self._modes is not None:
            with suppress(OSError, termios.error):
                os.write(sys.stdout.fileno(), PLAIN.encode())
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._modes)
        os._exit(code)

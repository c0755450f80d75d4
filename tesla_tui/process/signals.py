"""Stop requests: SIGINT (Ctrl-C), SIGTERM (`kill`, a scheduler) and SIGHUP (the terminal is gone).

Two ways. `leave_at_once` is in force from the first line of `main` on, while libraries load and commands do what
leaves nothing half done. `Stop` takes over while a stage is driven: the first signal lets it save, the second ends the
process.

A signal that was ignored when the process started stays ignored: that is what `nohup` asks for.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self

from engine.errors import ExitCode
from tesla_tui.process.speaker import has_launcher, is_first_here

CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.HANGUP,
}

ECHO = 0.3
"""Seconds after the first signal in which more are the same request: a hangup comes from the kernel and from the shell,
`timeout` tells a process and its group."""

ECHO_OF_WORKERS = 3.0
"""The same for workers, which a scheduler and their launcher both signal."""

TELL_AFTER = 1.0
"""Seconds after which the process says that it is still stopping."""

SAVED = "saved files are intact; run the same command to resume"

END = b"\0"
"""Not the number of a signal."""

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def caught(handler: Handler) -> Iterator[None]:
    """Give the signals that are not ignored to `handler` for as long as the block runs."""
    numbers = [number for number in CODES if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def leave_at_once(number: int, frame: FrameType | None = None) -> None:
    """End the process: for a handler, where nothing has to be saved."""
    # Not an exception: in the middle of a library's import it might be taken for the library's own failure.
    end_process(CODES[signal.Signals(number)], f"Stopped: {SAVED}.")


def end_process(code: ExitCode, words: str) -> None:
    """End the process now, from any thread, and what it measures elsewhere; files are whole at any moment."""
    measured = sys.modules.get("engine.runtime.subprocesses")
    if measured is not None:
        measured.end_all()
    with suppress(OSError):  # the terminal may be gone
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")
        if is_first_here() and not has_launcher():  # which says the same
            os.write(2, f"{words}\n".encode())
    os._exit(code)


class Insistence:
    """Tells a repeated request from an echo of the first."""

    def __init__(self) -> None:
        self._first: float | None = None

    def hear(self) -> bool:
        """Record a signal; whether it repeats an earlier request."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            return False
        return now - self._first > (ECHO_OF_WORKERS if "RANK" in os.environ else ECHO)


class Stop:
    """Remembers the first signal in `code`; the second one ends the process. A context manager, for the main thread.

    A thread hears the signals: the main one may be in a single operation of the network for seconds, and Python's own
    handlers wait for it.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.code: ExitCode | None = None
        self._tell = tell
        self._done = threading.Event()
        self._insistence = Insistence()

    def __enter__(self) -> Self:
        self._hear, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._caught = caught(lambda number, frame: None)
        self._caught.__enter__()
        self._thread = threading.Thread(target=self._listen, name="tesla-stop", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._caught.__exit__(kind, error, trace)
        signal.set_wakeup_fd(self._before)
        os.write(self._wake, END)  # not by closing: a forked child may have the other end open
        self._thread.join()
        os.close(self._wake)
        os.close(self._hear)

    def _listen(self) -> None:
        while (heard := os.read(self._hear, 1)) != END:
            number = int.from_bytes(heard, "little")
            if number not in set(CODES):
                continue  # another handler's: a window's new size, a child's end
            code = CODES[signal.Signals(number)]
            if self.code is None:
                self.code = code
                threading.Thread(target=self._tell_later, name="tesla-stop-words", daemon=True).start()
            if self._insistence.hear():
                end_process(code, f"Ended immediately: {SAVED}.")

    def _tell_later(self) -> None:
        if not self._done.wait(TELL_AFTER):
            self._tell("Saving and stopping after this step. A second signal ends immediately.")


def _forget_in_child() -> None:
    # A forked child has the handlers and would wake its parent with signals of its own.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_in_child)

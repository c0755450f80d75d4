"""Work beside the main thread: what a stage writes while it computes, and what cannot be interrupted."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType
from typing import Self, TypeVar

Result = TypeVar("Result")

BESIDE = "tesla-beside"
"""Name of the threads that may be abandoned."""

LOOK = 0.1
"""Seconds between two looks at work that is waited for."""


def run_in_thread(work: Callable[[], Result]) -> Generator[float, None, Result]:
    """Do a piece of work that cannot be interrupted, in a thread, so that a waiting caller can leave.

    Closing the generator abandons the thread: only for work that changes nothing but what it returns. An
    error of the work is raised here.

    Yields:
        Every tenth of a second, the seconds that have passed.
    """
    future: Future[Result] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, name=BESIDE, daemon=True).start()
    begun = time.monotonic()
    while True:
        try:
            return future.result(LOOK)
        except NotYet:
            if future.done():  # the work's own time-out
                raise
        yield time.monotonic() - begun


def left_behind() -> bool:
    """Whether work that no caller waits for is still running in a thread."""
    return any(thread.name == BESIDE for thread in threading.enumerate())


class SingleWorker:
    """A background thread with at most one piece of work; a context manager that waits for it on exit.

    A piece's error is raised by the next `submit` or `wait`, or at the end of the context. Nothing after it is started.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pending: Future[None] | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Wait for the previous piece, then do this one in the background."""
        self.wait()
        self._pending = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is in flight; raise what the last piece raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()

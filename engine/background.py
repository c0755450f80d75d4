"""Work beside the main thread, one piece at a time: what a stage writes while it goes on computing."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class OneInFlight:
    """A background thread with at most one piece of work; a context manager that waits for it on the way out.

    A piece's error is raised by the next `begin` or `wait`, or at the end of the context. Nothing after it is begun.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pending: Future[None] | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Wait for the piece before, then do this one beside the caller."""
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

"""Processes, or threads, that decode: `Decoders` hands images out and takes them back in order."""

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from multiprocessing import Pipe
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np

from engine.data.decoding.decode_worker import Decoded, Item, decode_items
from engine.data.decoding.pictures import Target
from engine.errors import WorkerLostError
from engine.runtime.parent import child_environment

LOOK = 0.1
"""Seconds between two looks at images that are waited for."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process:
    """A decoding process; one thread at a time may use it."""

    def __init__(self, target: Target, lock: int) -> None:
        self._pipe, theirs = Pipe()
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed by close)
        code = (
            "from engine.runtime.parent import end_with_parent; end_with_parent(); "
            f"from engine.data.decoding.decode_worker import serve; serve({theirs.fileno()}, {lock})"
        )
        # A session of its own: Ctrl-C is for the process that started it, whose end ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code], pass_fds=(theirs.fileno(), lock), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
            env=child_environment(),
        )  # fmt: skip
        theirs.close()
        self._pipe.send(target)

    def decode(self, items: Sequence[Item]) -> Decoded:
        try:
            self._pipe.send(items)
            bad, colour, resized, not_square, shape = self._pipe.recv()
            pixels = np.frombuffer(self._pipe.recv_bytes(), dtype=np.uint8).reshape(shape)
        except (EOFError, OSError) as error:
            raise WorkerLostError(
                f"A decoding process {self._end()} at {items[0][0]} or one of the {len(items) - 1} images after it.",
                "Run the same command again: it resumes. If this happens again, remove those images.",
            ) from error
        return Decoded(pixels, bad, colour, resized, not_square)

    def _end(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        words = " ".join(self._errors.read().strip().splitlines()[-2:])
        if code < 0:
            return f"ended by signal {-code} (9: usually out of memory)"
        return f"failed ({words or 'no error output'})"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


class Decoders:
    """Decodes batches of images, some ahead; a context manager that ends its processes.

    Args:
        target: what images become.
        processes: how many to start; 0 to decode in threads of this process, of which Python runs one at a time but
            for the decompression of large pictures.
    """

    def __init__(self, target: Target, processes: int) -> None:
        self._target = target
        self._count = processes or cores()
        self._closed = False
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._processes: list[_Process] = []
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        try:
            for _ in range(processes):
                self._processes.append(_Process(target, self._lock.fileno()))
                self._idle.put(self._processes[-1])
        except BaseException:
            self.close()
            raise
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tesla-read")
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="tesla-decode")

    def decode(self, batches: Iterator[Sequence[Item]]) -> Iterator[Decoded | None]:
        """Decode batches, in order.

        Args:
            batches: read in one thread, a few ahead of what is decoded.

        Yields:
            What became of each batch; None every tenth of a second in which none is ready.

        Raises:
            WorkerLostError: a process ended.
        """
        window: deque[Future[Decoded | None]] = deque()
        more = True
        while more or window:
            while more and len(window) < 2 * self._count:
                read = self._reader.submit(lambda: None if self._closed else next(batches, None))
                window.append(self._pool.submit(self._decode, read))
            try:
                found = window[0].result(LOOK)
            except NotYet:
                if window[0].done():  # the work's own time-out
                    raise
                yield None
                continue
            window.popleft()
            if found is None:
                more = False
            else:
                yield found

    def _decode(self, read: "Future[Sequence[Item] | None]") -> Decoded | None:
        items = read.result()
        if items is None or self._closed:
            return None
        if not self._processes:
            return decode_items((item for item in items if not self._closed), self._target)
        process = self._idle.get()
        try:
            return process.decode(items)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End at once; what is being decoded is lost."""
        self._closed = True
        for process in self._processes:
            process.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        for pool in (self._reader, self._pool):
            pool.shutdown(wait=False, cancel_futures=True)

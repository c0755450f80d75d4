"""Several processes for one run, over `torch.distributed`: gloo for tensors on the CPU and for what is decided, NCCL
for tensors on CUDA devices.

A collective of NCCL is waited for by the device, not by the host, and has no bound of its own here: the first rank may
evaluate or be paused for hours. The watchdog ends it: `STUCK` seconds after a loss it aborts the group.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from engine.errors import ExitCode, TeslaError, WorkerLostError, WorkersStoppedError
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.runtime.distributed.watchdog import DONE, FAILED, FOLLOWED, STOPPED, Watchdog
from engine.runtime.parent import allow_saving
from engine.runtime.threads import run_in_thread

Result = TypeVar("Result")

MEETING = timedelta(minutes=10)
"""Longest wait for all processes to start."""

MEETING_SOON = timedelta(seconds=30)
"""The same where this process started quickly: a launcher starts all at the same moment."""

SLOWER = 3
"""How many times as long as that of this process a start may take: the disk and the processor are shared."""

PATIENCE = timedelta(days=365)
"""A collective may wait as long as the first rank evaluates or is paused; the watchdog sees whether it is alive."""

LOOK = timedelta(seconds=0.5)
"""How often a waiting rank asks the watchdog."""

PIECE = 2**25
"""Bytes of a table of rows that are sent at once."""

APART = 1e-3
"""Relative difference between two ranks' numbers that rounding cannot explain."""


class Group(Ranks):
    """The ranks of a job that torchrun started. Created by `joined`."""

    def __init__(self, place: RankEnvironment) -> None:
        super().__init__(place)
        # An NCCL error shall end the collective, not the process: the state is saved first.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
        self._patience = _patience(time.time() - psutil.Process().create_time())
        self._store = _waited_for(lambda: _connected(self._patience), lambda: None)
        watched = PrefixStore("watchdog", self._store)
        self._watchdog = Watchdog(watched, place, dist.distributed_c10d._abort_process_group)
        self._watchdog.start()

    def connect(self) -> None:
        """Wait for the other ranks and connect to them, watched by the watchdog.

        Raises:
            WorkerLostError: one did not start in time, or was lost.
        """
        self._watchdog.await_others(self._patience.total_seconds())
        try:
            self._nccl = _waited_for(self._join, self.check)
        except RuntimeError as error:
            raise self._watchdog.reason() from error
        self.sum_(torch.zeros(1))  # the first collective connects all with all
        allow_saving()

    def _join(self) -> bool:
        nccl = _choose_nccl(PrefixStore("device", self._store), self.place)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "cpu:gloo,cuda:gloo" if torch.cuda.is_available() else "gloo",
            store=PrefixStore("group", self._store), rank=self.rank, world_size=self.size, timeout=PATIENCE,
        )  # fmt: skip
        return nccl

    def sum_(self, *tensors: Tensor) -> None:
        """See `Ranks`. On CUDA nothing waits here but the stream."""
        self.check()  # after a loss there may be no group to send to
        self._finish([(tensor, dist.all_reduce(tensor, async_op=True)) for tensor in tensors])

    def whole(self, rows: Tensor, count: int, first: int | None = None) -> Tensor:
        """See `Ranks`. A sum with zeros: bits do not change, and parts need not be equal."""
        found = rows.new_zeros((count, *rows.shape[1:]))
        begin = self.part(count).start if first is None else first
        found[begin : begin + len(rows)] = rows
        for piece in found.split(max(1, PIECE // max(1, found[:1].nbytes))):  # what is sent takes memory besides
            self.sum_(piece)
        return found

    def lead_(self, tensor: Tensor) -> None:
        """See `Ranks`."""
        self._send(tensor, 0)

    def led(self, value: Any) -> Any:
        """See `Ranks`."""
        return self._value_of(0, value)

    def gathered(self, value: Any) -> list[Any]:
        """See `Ranks`."""
        return [self._value_of(rank, value) for rank in range(self.size)]

    def agreed(self, values: list[float]) -> list[float]:
        """See `Ranks`."""
        found: list[float] = self.led(values)
        for mine, theirs in zip(values, found, strict=True):
            if math.isfinite(mine) != math.isfinite(theirs) or abs(mine - theirs) > APART * abs(theirs):
                raise WorkerLostError(
                    f"Worker {self.rank} computed {mine:.6g} where worker 0 computed {theirs:.6g}.",
                    "All workers must see the same workspace, and run the same version.",
                )
        return found

    def check(self) -> None:
        """See `Ranks`."""
        self._watchdog.check()

    def stopped(self, code: ExitCode) -> None:
        """Tell the others that this rank was asked to stop, before it leaves."""
        self._watchdog.leave(STOPPED, code=code)

    def failed(self, error: BaseException) -> None:
        """Tell the others why this rank leaves."""
        message = error.message if isinstance(error, TeslaError) else f"{type(error).__name__}: {error}"
        self._watchdog.leave(FOLLOWED if isinstance(error, WorkerLostError) else FAILED, message)

    def done(self) -> None:
        """Leave with the work done."""
        self._watchdog.leave(DONE)
        dist.destroy_process_group()

    def _finish(self, works: list[tuple[Tensor, Any]]) -> None:
        for tensor, work in works:
            device_waits = tensor.is_cuda and self._nccl
            while True:
                try:
                    work.wait() if device_waits else work.wait(LOOK)
                    break
                except RuntimeError as error:
                    if device_waits or work.is_completed():
                        raise self._watchdog.reason() from error
                    self.check()  # only the wait ended, not the work
        self.check()  # what an aborted collective of NCCL left in a tensor must not be used

    def _send(self, tensor: Tensor, source: int) -> None:
        self.check()
        self._finish([(tensor, dist.broadcast(tensor, source, async_op=True))])

    def _value_of(self, rank: int, value: Any) -> Any:
        data = json.dumps(value).encode() if rank == self.rank else b""
        size = torch.tensor([len(data)])
        self._send(size, rank)
        buffer = torch.zeros(int(size), dtype=torch.uint8)
        if rank == self.rank:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._send(buffer, rank)
        return json.loads(buffer.numpy().tobytes())


def _waited_for(work: Callable[[], Result], check: Callable[[], object]) -> Result:
    """Do what cannot be interrupted, in a thread: meanwhile this one hears signals, and `check` may raise."""
    working = run_in_thread(work)
    while True:
        try:
            next(working)
        except StopIteration as end:
            found: Result = end.value
            return found
        check()


def _patience(started_within: float) -> timedelta:
    """How long to wait for another process to start.

    Args:
        started_within: seconds that this one took.
    """
    return min(MEETING, max(MEETING_SOON, timedelta(seconds=SLOWER * max(0.0, started_within))))


def _connected(patience: timedelta) -> Store:
    """A connection to the store of the job; one that the launcher keeps was there before this process."""
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store: Store = next(iter(rendezvous("env://", timeout=patience if kept else MEETING)))[0]
    except RuntimeError as error:
        raise WorkerLostError(f"The workers could not connect: {error}") from error
    return store


def _choose_nccl(store: Any, place: RankEnvironment) -> bool:
    """Whether NCCL is used; all ranks decide alike.

    Not with MIG: two parts of one GPU are two devices for CUDA and one for NCCL, which refuses them. gloo then sends
    the device's tensors through the host.
    """
    try:
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except RuntimeError:  # a broken GPU does not end a run on the CPU
        names = []
    mine = bool(names) and not any(" MIG " in name for name in names)
    store.set(f"nccl/{place.rank}", str(int(mine)))
    return all(store.get(f"nccl/{rank}") == b"1" for rank in range(place.size))


@contextmanager
def joined(place: RankEnvironment) -> Iterator[Ranks]:
    """The ranks of this job for as long as the block runs. The others learn how it ended.

    A block that was asked to stop says so with `WorkersStoppedError`.
    """
    if place.size == 1:
        yield ALONE
        return
    group = Group(place)
    try:
        group.connect()
        yield group
    except WorkersStoppedError as stop:
        group.stopped(stop.exit_code)
        raise
    except BaseException as error:
        group.failed(error)
        raise
    group.done()

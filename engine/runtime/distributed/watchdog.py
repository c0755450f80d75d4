"""How a process of a run notices that another has died: notes and heartbeats in the store that torchrun keeps.

A process that leaves writes why, before its connections close; the heartbeat of one that can no longer do so stops. A
thread looks every second: the main thread may be training, evaluating, or waiting for an accelerator. Where a process
dies and its host lives, its closed connections tell the others at once; the heartbeat is for hosts that fail.
"""

import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psutil
from torch._C._distributed_c10d import Store

from engine.errors import ExitCode, TeslaError, WorkerLostError, WorkersStoppedError
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.parent import SAVE_WITHIN, parent_ended
from engine.storage.beats import EVERY, BeatWatcher
from engine.storage.processes import process_alive

STUCK = 10.0
"""Seconds the main thread has to notice a loss before `unblock` is called. Time to save must be left: torchrun kills
workers 30 seconds after the first has failed. Nothing is lost where the main thread only computes for so long: its next
collective fails, which it would have to do anyway."""

NOTICED_WITHIN = 10.0
"""Seconds in which the first process should have noticed that another leaves."""

REPLY = timedelta(seconds=20)
"""Longest wait for the store."""

FAILED, FOLLOWED, STOPPED, DONE = "failed", "followed", "stopped", "done"
"""Why a process leaves: its own error, another's loss, a signal, the work done."""


class Watchdog:
    """Watches the other processes.

    Args:
        store: torchrun's store; the watchdog keeps its own connection to it.
        place: this process.
        unblock: ends what the main thread waits for if it is stuck in an accelerator's collective.
    """

    def __init__(self, store: Store, place: RankEnvironment, unblock: Callable[[], None]) -> None:
        self._store: Any = store.clone()  # type: ignore[attr-defined]
        self._store.set_timeout(REPLY)
        self._place = place
        self._unblock = unblock
        self._problem: TeslaError | None = None
        self._noticed = False
        self._stop = threading.Event()
        self._put("who", {"pid": os.getpid(), "host": socket.gethostname()})
        self._watcher = BeatWatcher()
        self._beats = 0
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="tesla-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching those that have announced themselves, and the launcher."""
        self._thread.start()

    def await_others(self, seconds: float) -> None:
        """Wait until every process has announced itself, at most so long.

        Raises:
            WorkerLostError: one did not do so in time, or another was lost meanwhile.
        """
        begun = time.monotonic()
        try:
            while missing := [rank for rank in self._others() if not self._announced(rank)]:
                self.check()
                waited = time.monotonic() - begun
                if waited > seconds:
                    raise WorkerLostError(f"Worker {missing[0]} did not start within {waited:.0f} seconds.", RESUME)
                time.sleep(0.1)
        except RuntimeError:
            raise _launcher_gone() from None

    def check(self) -> None:
        """Raise what the thread found, if anything."""
        if self._problem is not None:
            self._noticed = True
            raise self._problem

    def leave(self, how: str, message: str = "", code: int = 0) -> None:
        """Write why this process leaves, and let the first one notice: as soon as this one has ended, the launcher
        sends the others a signal, which the first would take for a request to stop.
        """
        self._stop.set()
        try:
            self._put("left", {"how": how, "message": message, "code": code})
        except RuntimeError:
            return  # the store is gone, and with it all who could read the note
        finally:
            if how != DONE:
                _continue_stopped()
        if how != DONE:
            self._await_first()

    def _await_first(self) -> None:
        until = time.monotonic() + NOTICED_WITHIN
        with suppress(RuntimeError):  # the store is gone
            if self._place.writes or not self._is_here(0) or not self._announced(0):
                return
            while self._note(0) is None and process_alive(self._who(0)["pid"]) and time.monotonic() < until:
                time.sleep(0.05)

    def reason(self) -> TeslaError:
        """Why a collective failed: waits a little for the note of a process that left."""
        self._noticed = True
        until = time.monotonic() + 3 * EVERY
        try:
            before = {rank: self._store.get(f"beat/{rank}") for rank in self._others()}
            while self._problem is None and time.monotonic() < until:
                for rank in self._others():
                    self._problem = self._problem or self._left(rank) or self._dead_here(rank)
                time.sleep(0.1)
            silent = [rank for rank, beat in before.items() if self._store.get(f"beat/{rank}") == beat]
            self._problem = self._problem or (self._silent(silent[0]) if silent else None)
        except RuntimeError:
            self._problem = self._problem or _launcher_gone()
        return self._problem or WorkerLostError("The connection to another worker was lost.", RESUME)

    def _others(self) -> list[int]:
        return [rank for rank in range(self._place.size) if rank != self._place.rank]

    def _watch(self) -> None:
        # The first process watches all and the others watch it: it leaves when one has died, and then all do.
        watched = self._others() if self._place.writes else [0]
        found = math.inf
        unblocked = False
        while not self._stop.wait(EVERY):
            try:
                self._beat()
                self._problem = self._problem or (_launcher_gone() if parent_ended() else self._look(watched))
            except RuntimeError:
                self._problem = self._problem or _launcher_gone()
            if self._problem is None or self._noticed:
                continue
            found = min(found, time.monotonic())
            if time.monotonic() - found > STUCK and not unblocked:
                self._unblock()
                unblocked = True
            if time.monotonic() - found > SAVE_WITHIN and not self._place.writes:  # it has nothing to save
                os._exit(ExitCode.FAILURE)

    def _look(self, watched: list[int]) -> TeslaError | None:
        """What is wrong with one of the processes; those that are done are removed from the list."""
        for rank in watched[:]:
            if not self._announced(rank):
                continue
            if self._is_done(rank):
                watched.remove(rank)
                continue
            silent = self._watcher.look(rank, self._store.get(f"beat/{rank}")) is False
            problem = self._left(rank) or self._dead_here(rank) or (self._silent(rank) if silent else None)
            if problem:
                return problem
        return None

    def _left(self, rank: int) -> TeslaError | None:
        """What a process wrote that left before the work was done."""
        note = self._note(rank)
        if note is None or note["how"] == DONE:
            return None
        if note["how"] == STOPPED:
            return WorkersStoppedError(f"{self._name(rank)} was asked to stop.", ExitCode(note["code"]))
        told = note["message"] if note["how"] == FOLLOWED else f"{self._name(rank)} failed: {note['message']}"
        return WorkerLostError(told, RESUME)

    def _dead_here(self, rank: int) -> TeslaError | None:
        """A process of the same launcher that ended without a note, which shows sooner than its silence."""
        if not self._is_here(rank) or process_alive(self._who(rank)["pid"]) or self._note(rank) is not None:
            return None
        return WorkerLostError(f"{self._name(rank)} was lost: it has ended.", RESUME, ended=rank)

    def _silent(self, rank: int) -> TeslaError:
        return WorkerLostError(f"{self._name(rank)} was lost: it does not respond.", RESUME)

    def _is_here(self, rank: int) -> bool:
        first = self._place.rank - self._place.local_rank
        return first <= rank < first + self._place.local_size

    def _announced(self, rank: int) -> bool:
        return bool(self._store.check([f"who/{rank}"]))

    def _is_done(self, rank: int) -> bool:
        note = self._note(rank)
        return note is not None and note["how"] == DONE

    def _name(self, rank: int) -> str:
        who = self._who(rank)
        return f"Worker {rank} (process {who['pid']} on {who['host']})"

    def _who(self, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._store.get(f"who/{rank}"))
        return found

    def _note(self, rank: int) -> dict[str, Any] | None:
        if not self._store.check([f"left/{rank}"]):
            return None
        found: dict[str, Any] = json.loads(self._store.get(f"left/{rank}"))
        return found

    def _put(self, key: str, value: dict[str, Any]) -> None:
        self._store.set(f"{key}/{self._place.rank}", json.dumps(value))

    def _beat(self) -> None:
        self._beats += 1
        self._store.set(f"beat/{self._place.rank}", str(self._beats))


RESUME = "What was saved is intact. The same command resumes, with any number of workers."


def _launcher_gone() -> TeslaError:
    words = "has exited" if parent_ended() else "has exited, or does not answer"
    return WorkerLostError(f"The launcher of the workers {words}.", RESUME)


def _continue_stopped() -> None:
    """Continue what SIGSTOP holds among the processes of this launcher: it could not hear that it is to end."""
    with suppress(psutil.Error):
        for process in psutil.Process(os.getppid()).children():
            if "RANK" in process.environ() and process.status() == psutil.STATUS_STOPPED:
                process.send_signal(signal.SIGCONT)

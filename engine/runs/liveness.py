"""Whether a process drives a run: the kernel's lock and process list for this machine, the heartbeat for others."""

import time
from collections.abc import Iterator, Sequence

import psutil

from engine.errors import UnreadableFileError
from engine.runs.heartbeat import read_heartbeat
from engine.runs.run import Run
from engine.storage.beats import EVERY, WATCHER, file_stamp
from engine.storage.holder import UNKNOWN, Holder, read_holder
from engine.storage.lock import LeaseLock, is_locked
from engine.storage.reading import exists

LOCK, DRIVER = ".driver.lock", "driver.json"

LOOK = 2.5 * EVERY
"""Seconds in which a driver that is alive is seen to beat."""


def driver_of(run: Run) -> Holder | None:
    """The last process that drove the run; `is_driven` says whether it still does."""
    return read_holder(run.folder / DRIVER)


def driver_words(run: Run) -> str:
    """` by process 12 on host since ...`; empty if it is not known."""
    driver = driver_of(run)
    return "" if driver is None else f" by {driver.words}"


def run_lease(run: Run) -> LeaseLock:
    """What a driver of the run holds."""
    return LeaseLock(run.folder / LOCK, run.folder / DRIVER, run.heartbeat_file)


def driver_alive(run: Run) -> bool | None:
    """Whether a process drives the run; None while that is not known of one on another machine.

    Call again to know: the answer comes from what changed between the calls. See `watch_drivers`.
    """
    try:
        locked = is_locked(run.folder / LOCK)
    except FileNotFoundError:
        locked = False  # no process of this machine has what is not there
    except (OSError, UnreadableFileError):  # OSError: a link
        locked = None  # not ours to read, or out of reach just now
    if locked:
        return True
    driver = driver_of(run)
    if driver is None or driver.released is not None:
        return False
    if driver != UNKNOWN and not driver.machine and not exists(run.heartbeat_file):
        return False  # version 0.1.0 did not record that it had stopped, but removed its heartbeat file
    return driver.alive(run.folder / DRIVER, run.heartbeat_file, unlocked=locked is False)


def is_driven(run: Run) -> bool:
    """Whether a process drives the run. One on another machine counts as alive until it is known to be dead."""
    return driver_alive(run) is not False


def liveness(run: Run) -> str:
    """`running`, `paused` or `stalled` while a process drives the run; empty if none does.

    A driver without progress is `stalled`: suspended, starved by its machine, or on another machine and not yet seen
    to beat (nor known to be dead).
    """
    alive = driver_alive(run)
    if alive is False:
        return ""
    if alive is None:
        return "stalled"
    said = read_heartbeat(run.heartbeat_file)
    if said is None:
        return "running"  # it has just started, or is ending
    if _silent(run, driver_of(run)):
        return "stalled"
    return "paused" if said.paused else "stalled" if said.stalled else "running"


def watch_drivers(runs: Sequence[Run], seconds: float = LOOK) -> Iterator[list[Run]]:
    """Watch for at most `seconds` until it is known for every run whether its driver is alive.

    Yields the runs still unknown, ten times a second; nothing if all drivers are on this machine.
    """
    until = time.monotonic() + seconds
    while (unknown := [run for run in runs if driver_alive(run) is None]) and time.monotonic() < until:
        yield unknown
        time.sleep(0.1)


def _silent(run: Run, driver: Holder | None) -> bool:
    """Whether a driver that has the lock is suspended, or has not written its heartbeat for a long time."""
    if driver is not None and driver.mine:
        try:
            if psutil.Process(driver.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                return True
        except psutil.Error:
            pass  # it ended just now
    return WATCHER.look(run.heartbeat_file, file_stamp(run.heartbeat_file)) is False

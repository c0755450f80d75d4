"""Runs the parts, each in a process of its own with a time limit: many at once, then those that measure time alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cuda.groups import Group
from benchmarks.cuda.rows import Rows, read_rows

LOOK = 0.1
"""Seconds between two looks at the processes."""

SHARE = 0.5
"""Of all the time, what parts that run together may take; the rest is for those that measure time."""

LEAST = 12.0
"""Seconds that must be left to start another part."""

GRACE = 3.0
"""Seconds after its limit in which a process can still say where it was."""


@dataclass
class Running:
    """A part that was started."""

    group: Group
    part: str
    process: subprocess.Popen[bytes]
    log: Path
    ends: float
    """By the monotonic clock."""


class Runner:
    """Runs groups one after the other, or as many parts at once as the machine takes.

    Args:
        rows: the file of rows.
        work: a folder for logs and caches.
        device: cuda or cpu.
        ends: when everything has to end, by the monotonic clock.
        together: processes at once.
        changed: called whenever a part has ended.
    """

    def __init__(
        self, rows: Path, work: Path, device: str, ends: float, together: int, changed: Callable[[str], None]
    ) -> None:
        self._rows = rows
        self._work = work
        self._device = device
        self._began = time.monotonic()
        self._ends = ends
        self._together = together
        self._changed = changed
        self._running: list[Running] = []

    def run(self, groups: Sequence[Group]) -> None:
        """All of them. However it ends, no process is left."""
        shared = [(group, part) for group in groups if not group.alone for part in group.parts]
        alone = [(group, part) for group in groups if group.alone for part in group.parts]
        now = time.monotonic()
        middle = now + SHARE * (self._ends - now) if alone else self._ends
        try:
            self._work_off(shared, self._together, middle)
            self._work_off(alone, 1, self._ends)
        finally:
            for running in self._running:
                self._stop(running, "stopped")

    def _work_off(self, waiting: list[tuple[Group, str]], together: int, ends: float) -> None:
        while waiting or self._running:
            left = ends - time.monotonic()
            while waiting and len(self._running) < together:
                group, part = waiting.pop(0)
                if left < LEAST:
                    Rows(self._rows, group.name, part).add(part or group.title, "the time was up", "", "not run")
                    continue
                self._start(group, part, min(group.seconds, left - GRACE), together)
            time.sleep(LOOK)
            for running in list(self._running):
                self._look(running)

    def _start(self, group: Group, part: str, seconds: float, together: int) -> None:
        log = self._work / f"{group.name}-{part.replace(' ', '-')}.log"
        command = [sys.executable, "-m", "benchmarks.cuda.worker", group.name, part, str(self._rows), self._device]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, str(seconds)],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=self._environment(together), start_new_session=True,
            )  # fmt: skip
        self._running.append(Running(group, part, process, log, time.monotonic() + seconds + GRACE))

    def _environment(self, together: int) -> dict[str, str]:
        """Caches of its own, so that a first call is one, and its share of the cores."""
        root = str(Path(__file__).parents[2])
        found = {"TESLA_CACHE": "cache", "TESLA_CONFIG": "config", "TESLA_COMPILED": "compiled"}
        chosen = {name: os.environ.get(name, str(self._work / folder)) for name, folder in found.items()}
        for folder in chosen.values():
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        cores = os.cpu_count() or 1
        threads, compilers = (max(1, min(4, cores // together)), max(1, cores // min(together, 5)))
        settled = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads)}
        settled["TORCHINDUCTOR_COMPILE_THREADS"] = str(compilers)
        return {**os.environ, **settled, **chosen, "PYTHONPATH": os.pathsep.join(paths)}

    def _look(self, running: Running) -> None:
        code = running.process.poll()
        if code is None and time.monotonic() < running.ends:
            return
        if code == 0:
            self._end_group(running.process)
            self._running.remove(running)
        else:
            self._stop(running, "stopped by its time limit" if code in (None, 1) and _timed_out(running) else "ended")
        seconds = time.monotonic() - self._began
        self._changed(f"{seconds:5.0f} s  {running.group.name} {running.part}".rstrip())

    def _stop(self, running: Running, how: str) -> None:
        """End a part that did not end itself in order, and say so in a row."""
        self._end_group(running.process)
        self._running.remove(running)
        mine = [row for row in read_rows(self._rows) if (row.group, row.part) == (running.group.name, running.part)]
        if how == "ended" and mine and mine[-1].verdict == "fail":
            return  # the error is a row already
        after = f"; the last row was “{mine[-1].what}”" if mine else ""
        place = _last_line(running.log)
        rows = Rows(self._rows, running.group.name, running.part)
        rows.add(running.part or running.group.title, f"{how}{after}{place}", "", "not finished")

    @staticmethod
    def _end_group(process: subprocess.Popen[bytes]) -> None:
        """The process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _timed_out(running: Running) -> bool:
    return running.process.poll() is None or b"Timeout (" in running.log.read_bytes()


def _last_line(log: Path) -> str:
    """Where a process was: the last frame of this repository in its log, or its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("File ") and ("/engine/" in line or "/benchmarks/" in line)]
    frames = [line for line in ours if "worker.py" not in line]  # its own threads
    chosen = frames[:1] or lines[-1:]
    return "".join(f"; {line[:200]}" for line in chosen)

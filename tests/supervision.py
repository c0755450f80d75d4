"""Kill what starts other processes, at many moments, and count what is left: `python -m tests.supervision`.

A mark in the environment finds every process that came from one command, whoever its parent is by then. A trial starts
a command, kills it with SIGKILL some seconds after its first child appeared, and looks for a minute. Nothing may be
left. `tests/tui/cli/test_supervision.py` does a few of these.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from tests.processes import COMMAND, HANGS, NEVER, sets

MARK = "TESLA_TEST_MARK"
WITHIN = 60.0
"""Seconds in which all processes of a job end after one of them is lost."""
LONG = ("evaluate.baseline=false", f"evaluate.every={NEVER}", f"distill.iterations={NEVER}")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
HOSTED = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "--", "tesla_tui.main")


class Job:
    """A command in a workspace, and all processes that come from it.

    Args:
        kind: one of `KINDS`.
        folder: a workspace.
        options: more words for the command.
    """

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        self.kind = kind
        self._mark = uuid.uuid4().hex
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (no pipe: nobody reads while it runs)
        environment = {**os.environ, MARK: self._mark, "COLUMNS": "500"}
        self.process = subprocess.Popen(
            [*KINDS[kind](folder), *options], env=environment, stdout=self._output, stderr=self._output,
            start_new_session=True,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """All that are left of it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def worker(self, rank: int) -> psutil.Process:
        """The process of a rank, as soon as there is one."""
        until = time.monotonic() + HANGS
        while time.monotonic() < until:
            for process in self.processes():
                with suppress(psutil.Error):
                    if process.environ().get("RANK") == str(rank):
                        return process
            time.sleep(0.02)
        raise AssertionError(f"there is no worker {rank}: {self.said()}")

    def children(self) -> list[psutil.Process]:
        """Those that the command started."""
        return [process for process in self.processes() if process.pid != self.process.pid]

    def child(self) -> psutil.Process:
        """Some process that the command started, as soon as there is one."""
        until = time.monotonic() + HANGS
        while time.monotonic() < until:
            for process in self.children():
                return process
            time.sleep(0.02)
        raise AssertionError(f"it started nothing: {self.said()}")

    def launcher(self) -> psutil.Process:
        """The process that starts workers: of a detached run it is not the command itself."""
        return psutil.Process(self.worker(0).ppid() if self.kind == "detached" else self.process.pid)

    def left_after(self, seconds: float = WITHIN) -> list[str]:
        """Wait until nothing is left of it, or so long; the command lines of what is left."""
        until = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < until:
            self.process.poll()
            time.sleep(0.1)
        found = []
        for process in left:
            with suppress(psutil.Error):
                found.append(f"{process.status()}: {' '.join(process.cmdline())}")
                process.kill()
        return found

    def said(self) -> str:
        """Its output so far, on one line."""
        self._output.seek(0)
        return " ".join(self._output.read().split())

    def end(self) -> None:
        """Kill all of it."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()
        self._output.close()


def _run(folder: Path, *options: str) -> list[str]:
    return ["run", str(folder), "--run", "r", *options, *sets(*LONG)]


KINDS = {
    "workers": lambda folder: [*COMMAND, *_run(folder, "--workers", "2")],
    "torchrun": lambda folder: [*TORCHRUN, *HOSTED, *_run(folder)],
    "seeds": lambda folder: [*COMMAND, *_run(folder, "--workers", "2", "--seeds", "2")],
    "detached": lambda folder: [*COMMAND, *_run(folder, "--workers", "2", "--detach")],
    "plan": lambda folder: [*COMMAND, "plan", str(folder), "--ipc", "1"],
    "bench": lambda folder: [*COMMAND, "bench", "gradient"],
    "serve": lambda folder: [*COMMAND, "serve", str(folder)],
}
"""Command lines of what starts processes."""


def kill_launcher(kind: str, folder: Path, delay: float) -> tuple[list[str], float, str]:
    """Kill a launcher `delay` seconds after its first child appeared.

    Returns:
        The command lines of what was left a minute later, the seconds after which nothing was, and its output.
    """
    job = Job(kind, folder)
    try:
        if kind in ("plan", "bench"):
            job.child()
        else:
            job.worker(0)
        time.sleep(delay)
        launcher = job.launcher()
        launcher.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        left = job.left_after()
        return left, time.monotonic() - begun, job.said()
    finally:
        job.end()


def main() -> int:
    """Kill every kind of launcher at every delay, and print a row for each; 1 if anything was left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [kind for kind in KINDS if kind != "serve"]  # which starts screens for a browser only
    parser.add_argument("--kinds", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--delays", nargs="*", type=float, default=[step / 4 for step in range(25)])
    chosen = parser.parse_args()
    orphans = 0
    print(f"{'start':<10} {'killed after':>12} {'all ended after':>16} {'left':>5}")
    for kind in chosen.kinds:
        for delay in chosen.delays:
            with tempfile.TemporaryDirectory(prefix="tesla-supervision-") as name:
                folder = Path(name) / "ws"
                subprocess.run([*COMMAND, "init", str(folder), "--dataset", "digits"], check=True, capture_output=True)
                left, seconds, _ = kill_launcher(kind, folder, delay)
            orphans += len(left)
            print(f"{kind:<10} {delay:>10.2f} s {seconds:>14.1f} s {len(left):>5}", flush=True)
    print(f"{len(chosen.kinds) * len(chosen.delays)} kills, {orphans} processes left.")
    return 1 if orphans else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the live screens cost: iterations per second driven in `tesla tui` against headless `tesla run`, in pairs; idle
processor time of an attached window; and how long a key press takes while the engine runs on all cores.

    python benchmarks/live_cost.py WORKSPACE --run NAME [--pairs 15] [--seconds 5] [--size 120x40]

The run must have its teachers; it is copied for every measurement, and resumes from its last checkpoint.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import psutil

COMMAND = (sys.executable, "-m", "tesla_tui.main")


class Terminal:
    """A program in a terminal of a given size; everything it draws is read and thrown away."""

    def __init__(self, command: tuple[str, ...], columns: int, rows: int) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", TESLA_IMAGES="blocks")
            os.execvp(command[0], command)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.drawn = 0

    def read(self, seconds: float) -> bytes:
        """What it draws within that time."""
        found = b""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self.descriptor], [], [], left)
            if ready:
                try:
                    data = os.read(self.descriptor, 65536)
                except OSError:
                    break
                found += data
        self.drawn += len(found)
        return found

    def answer(self, key: bytes, sign: bytes, most: float = 5.0) -> float:
        """Seconds from pressing a key until `sign` is drawn."""
        self.read(0.3)
        begun = time.monotonic()
        os.write(self.descriptor, key)
        found = b""
        while sign not in found and time.monotonic() - begun < most:
            ready, _, _ = select.select([self.descriptor], [], [], 0.5)
            if ready:
                found += os.read(self.descriptor, 65536)
        return time.monotonic() - begun

    def end(self) -> None:
        """SIGTERM: it saves and exits."""
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            self.read(0.05)
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def pace(journal: Path, begin: float, end: float) -> float | None:
    """Iterations per second between two moments."""
    times = []
    for line in journal.read_text().splitlines():
        if '"IterationDone"' in line:
            times.append(json.loads(line)["time"])
    inside = [t for t in times if begin <= t <= end]
    return (len(inside) - 1) / (inside[-1] - inside[0]) if len(inside) > 2 else None


def copied(workspace: Path, run: str, into: Path) -> Path:
    """A copy of the workspace with that run only, and its teachers."""
    target = into / f"copy-{time.monotonic_ns()}"
    (target / "runs").mkdir(parents=True)
    shutil.copy(workspace / "tesla.toml", target)
    shutil.copytree(workspace / "buffers", target / "buffers")
    shutil.copytree(workspace / "runs" / run, target / "runs" / run)
    return target


def compared(workspace: Path, run: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Two processes on copies of one run, headless and on screen; only one of them runs at a time, in turns.

    Turns of a few seconds, because the speed of a shared machine changes by more than what is measured here.
    """
    columns, rows = map(int, options.size.split("x"))
    settings = ("--set", "distill.iterations=1000000", "--set", "evaluate.every=1000000")
    copies = [copied(workspace, run, folder) for _ in range(2)]
    journals = [copy / "runs" / run / "journal.jsonl" for copy in copies]
    headless = subprocess.Popen(
        (*COMMAND, "run", str(copies[0]), "--run", run, *settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(8)
    headless.send_signal(signal.SIGSTOP)
    terminal = Terminal((*COMMAND, "tui", str(copies[1]), "--run", run, *settings), columns, rows)
    terminal.read(8)
    os.write(terminal.descriptor, options.tab.encode())
    terminal.read(2)
    keys: list[float] = []
    paces: list[list[float]] = [[], []]
    pids = [headless.pid, terminal.pid]
    os.kill(terminal.pid, signal.SIGSTOP)
    for turn in range(2 * options.pairs):
        which = (turn + turn // 2) % 2  # 0 1 1 0 0 1 1 0 ...
        os.kill(pids[which], signal.SIGCONT)
        terminal.read(1.0)
        begin = time.time()
        terminal.read(options.seconds)
        rate = pace(journals[which], begin, time.time())
        if rate is not None:
            paces[which].append(rate)
        if which == 1:
            keys += [terminal.answer(b"6", b"dataset.zca"), terminal.answer(options.tab.encode(), b"1 Overview")]
        os.kill(pids[which], signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    headless.terminate()
    terminal.end()
    headless.wait()
    ratios = [driven / alone for alone, driven in zip(*paces, strict=False)]
    ordered = sorted(ratios)
    return {
        "pairs": len(ratios), "seconds_a_turn": options.seconds, "size": options.size, "tab": options.tab,
        "headless_iterations_per_second": round(statistics.median(paces[0]), 3),
        "driven_iterations_per_second": round(statistics.median(paces[1]), 3),
        "ratio_of_means": round(statistics.fmean(paces[1]) / statistics.fmean(paces[0]), 4),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(ordered[len(ratios) // 4], 3), round(ordered[3 * len(ratios) // 4], 3)],
        "key_seconds_median": round(statistics.median(keys), 3), "key_seconds_worst": round(max(keys), 3),
    }  # fmt: skip


def idle(workspace: Path, run: str, folder: Path, options: argparse.Namespace) -> float:
    """Share of a core that a window on a run that is not driven takes."""
    columns, rows = map(int, options.size.split("x"))
    here = copied(workspace, run, folder)
    terminal = Terminal((*COMMAND, "tui", str(here), "--run", run, "--watch"), columns, rows)
    terminal.read(6)
    before = sum(psutil.Process(terminal.pid).cpu_times()[:2])
    terminal.read(20)
    used = sum(psutil.Process(terminal.pid).cpu_times()[:2]) - before
    terminal.end()
    return float(used) / 20


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--tab", default="1", help="key of the tab that is open")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compared(options.workspace, options.run, Path(folder), options)
        found["idle_share_of_a_core"] = round(idle(options.workspace, options.run, Path(folder), options), 4)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""What the live screens cost: iterations per second driven in `tesla tui` against headless `tesla run`, in pairs; idle
processor time of an attached window; and how long a key takes to be answered while the engine runs on all cores.

    python benchmarks/live_cost.py WORKSPACE --run NAME [--pairs 5] [--seconds 20] [--size 120x40]

The run must have its teachers; it is copied for every measurement, and goes on from its last checkpoint.
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
        """SIGTERM: it saves and leaves."""
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            self.read(0.05)
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def pace(journal: Path, skip: float, seconds: float) -> float:
    """Iterations per second of the last drive, from `skip` seconds after its first iteration on."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    start = max(n for n, line in enumerate(lines) if line["kind"] == "RunStarted")
    times = [line["time"] for line in lines[start:] if line["kind"] == "IterationDone"]
    inside = [t for t in times if times[0] + skip <= t <= times[0] + skip + seconds]
    return (len(inside) - 1) / (inside[-1] - inside[0])


def copied(workspace: Path, run: str, into: Path) -> Path:
    """A copy of the workspace with that run only; teachers are shared by a link."""
    target = into / f"copy-{time.monotonic_ns()}"
    (target / "runs").mkdir(parents=True)
    shutil.copy(workspace / "tesla.toml", target)
    (target / "buffers").symlink_to((workspace / "buffers").resolve())
    shutil.copytree(workspace / "runs" / run, target / "runs" / run)
    return target


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--tab", default="1", help="key of the tab that is open")
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    iterations = json.loads((options.workspace / "runs" / options.run / "driver.json").read_text()) and 10**6
    settings = ("--set", f"distill.iterations={iterations}", "--set", "evaluate.every=1000000")
    ratios, headless, driven, keys = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.pairs):
            for which in ("headless", "driven") if number % 2 == 0 else ("driven", "headless"):
                here = copied(options.workspace, options.run, Path(folder))
                journal = here / "runs" / options.run / "journal.jsonl"
                if which == "headless":
                    command = (*COMMAND, "run", str(here), "--run", options.run, *settings)
                    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    time.sleep(options.seconds + 12)
                    process.send_signal(signal.SIGTERM)
                    process.wait()
                    headless.append(pace(journal, 4, options.seconds))
                else:
                    terminal = Terminal((*COMMAND, "tui", str(here), "--run", options.run, *settings), columns, rows)
                    terminal.read(8)
                    os.write(terminal.descriptor, options.tab.encode())
                    terminal.read(options.seconds + 4)
                    keys += [terminal.answer(b"6", b"dataset.zca"), terminal.answer(b"1", b"student_lr")]
                    terminal.end()
                    driven.append(pace(journal, 4, options.seconds))
            ratios.append(driven[-1] / headless[-1])
        here = copied(options.workspace, options.run, Path(folder))
        terminal = Terminal((*COMMAND, "tui", str(here), "--run", options.run, "--watch"), columns, rows)
        terminal.read(6)
        before = sum(psutil.Process(terminal.pid).cpu_times()[:2])
        terminal.read(20)
        idle = (sum(psutil.Process(terminal.pid).cpu_times()[:2]) - before) / 20
        terminal.end()
    print(
        json.dumps({
            "size": options.size, "tab": options.tab, "pairs": options.pairs,
            "headless_iterations_per_second": round(statistics.median(headless), 3),
            "driven_iterations_per_second": round(statistics.median(driven), 3),
            "ratio_median": round(statistics.median(ratios), 4), "ratios": [round(r, 3) for r in ratios],
            "idle_share_of_a_core": round(idle, 4),
            "key_seconds_median": round(statistics.median(keys), 3), "key_seconds_worst": round(max(keys), 3),
        }, indent=2)
    )  # fmt: skip


if __name__ == "__main__":
    main()

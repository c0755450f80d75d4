"""Runs without a terminal: started in their own session, so that they survive the connection, and stopped again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ExitCode, TeslaError, UsageError, tesla
from engine.runs.liveness import driver_alive, driver_of, driver_words, is_driven, watch_drivers
from engine.runs.run import Run
from engine.storage.atomic import disk
from engine.storage.beats import file_stamp
from engine.storage.symlinks import check_links

LOG = "detached.log"
"""What a detached process prints, in the run's folder."""

START_WITHIN = 20.0
"""Seconds to wait for the run to start; decoding a dataset may take longer."""


def worker_arguments(workspace: Path, name: str, options: Sequence[str]) -> list[str]:
    """The command line of `tesla run` for a process that is not started from this folder."""
    return ["run", str(workspace.resolve()), "--run", name, *options]


def start_detached(workspace: Path, run: Run, arguments: Sequence[str], name: str | None = None) -> int:
    """Start `tesla run` for a run in a new session; its process id. Returns when it drives, or is still preparing.

    Args:
        workspace: the workspace's folder.
        run: the run.
        arguments: further options of `tesla run`.
        name: that the command is given; unset: the run's. With --seeds it is not that of the first run.

    Raises:
        UsageError: another process is driving the run.
        TeslaError: it ended at once; the message has the end of its output, and the exit code is its own.
    """
    for _ in watch_drivers([run]):
        pass
    if driver_alive(run):  # of one that gives no sign, the new process makes sure
        raise UsageError(
            f"The run {run.name} is already being driven{driver_words(run)}.",
            f"Watch it with: {tesla('tui', workspace, '--run', run.name)}",
        )
    check_links(workspace, run.folders)
    disk.make_folder(run.folder)
    command = [sys.executable, "-P", "-m", "tesla_tui.main", *worker_arguments(workspace, name or run.name, arguments)]
    before = file_stamp(run.heartbeat_file)
    log = run.folder / LOG
    disk.remove(log)  # a link of that name would be written through
    with open(log, "xb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until:
        code = process.poll()
        if code is not None:
            if code == 0:
                return process.pid  # it had nothing left to do
            words = log.read_text(errors="replace").strip().splitlines()
            error = TeslaError(
                f"The background run exited immediately (exit code {code}): {' '.join(words[-3:])}",
                f"Its full output is in {log}.",
            )
            error.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.FAILURE
            raise error
        if file_stamp(run.heartbeat_file) not in (None, before):  # its own, or that of the first of its workers
            break
        time.sleep(0.05)
    process.returncode = 0  # it outlives this process; nothing to wait for at exit
    return process.pid


def ask_to_stop(run: Run) -> int:
    """Ask the driver of a run to save and stop; its process id.

    Raises:
        UsageError: no process drives it, or the driver is on another machine.
    """
    driver, alive = driver_of(run), driver_alive(run)
    if driver is None or alive is False:
        raise UsageError(f"The run {run.name} is not running.", "There is nothing to stop.")
    if not driver.mine:
        silent = "" if alive else ", and gives no heartbeat"
        raise UsageError(
            f"The run {run.name} is being driven{driver_words(run)}, on another machine{silent}.",
            "On that machine, run `tesla stop`" + (f", or `kill -TERM {driver.pid}`." if driver.pid else "."),
        )
    os.kill(driver.pid, signal.SIGTERM)
    return driver.pid


def wait_until_free(run: Run, seconds: float) -> bool:
    """Wait until no process drives the run; whether that happened in time."""
    until = time.monotonic() + seconds
    while is_driven(run):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True

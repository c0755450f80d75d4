"""Commands as forks of one process: Python and PyTorch are loaded once, so that a trial takes the time of its command.

A SIGKILL is a real one. Nothing is computed before the forks, and what the program does is not changed.
"""

import contextlib
import gc
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults import Faulty, install
from tests.torture.cases import STARTED

ROOT = Path(__file__).parents[2]
HANGS = 240.0
"""Seconds after which a command is taken to hang, and killed."""
LINGERS = 60.0
"""Seconds that the processes which a command started may live on."""
AS_PYTHON = """
import sys
sys.executable, sys.argv = sys.argv[1], ["tesla", *sys.argv[2:]]
from tesla_tui.main import main
sys.exit(main())
"""
"""Runs `tesla` with another program in the place of Python for the processes that it starts."""
MARK = "TESLA_TORTURE_MARK"
"""A variable in the environment of all processes that came from one command."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        text: what it printed.
        codes: exit codes of its commands, as far as it got.
        killed: whether SIGKILL ended it.
        hung: whether it, or a process that it started, had to be stopped.
    """

    text: str
    codes: list[int]
    killed: bool
    hung: bool = False


def load() -> None:
    """Import everything that a command imports, without computing anything."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import tesla_tui.cli.app
    import tesla_tui.main  # noqa: F401

    torch.set_num_threads(1)


def load_more(folder: Path) -> None:
    """Import what a fork in this folder had to import: most of the time of a trial."""
    for name in _beside(folder, "loaded").read_text().splitlines():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def fork(
    folder: Path, commands: Sequence[tuple[str, ...]], system: Faulty | None = None, stop: float = 0.0,
    tracer: Sequence[str] = (),
) -> Ended:  # fmt: skip
    """Run commands in a forked process.

    Args:
        folder: to work in; the dataset cache is in it.
        commands: arguments of `tesla`.
        system: the file system of the process.
        stop: seconds after which it is killed; 0: never.
        tracer: words of a command that attaches itself to the process, without its number.
    """
    printed = _beside(folder, "printed")
    gate, key = os.pipe()
    seen, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(key)
        os.close(seen)
        _become(folder, commands, system, gate, ready)
    os.close(gate)
    os.close(ready)
    os.read(seen, 1)  # only now, so that the tracer counts the command's calls and no others
    os.close(seen)
    tracing = _attached(tracer, child) if tracer else None
    os.write(key, b"1")
    os.close(key)
    if stop:
        time.sleep(stop)
        os.kill(child, signal.SIGKILL)
    status, hung = _waited(child)
    if tracing is not None:
        try:  # it ends with the last of the processes that the command started
            tracing.wait(60)
        except subprocess.TimeoutExpired:
            hung = True
            tracing.kill()
            tracing.wait()
    text = printed.read_text(errors="replace")
    codes = [int(code) for code in re.findall(r"^exit (\d+)$", text, re.MULTILINE)]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not hung
    return Ended(text, codes, killed, hung)


def start(folder: Path, command: tuple[str, ...], tracer: Sequence[str], who: str) -> Ended:
    """Run a command from the first instruction of Python on, and wait for the last of the processes that it starts.

    Args:
        folder: to work in.
        command: arguments of `tesla`.
        tracer: words of a command that runs the rest of its words.
        who: which process is traced, from its first instruction on: `itself`, or one of `STARTED`.
    """
    mark = uuid.uuid4().hex
    words = [*tracer, sys.executable, "-m", "tesla_tui.main", *command]
    if who != "itself":
        python = traced_python(_beside(folder, "python"), tracer, STARTED[who])
        words = [sys.executable, "-c", AS_PYTHON, str(python), *command]
    printed = _beside(folder, "printed")
    with open(printed, "w") as out:
        process = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={**os.environ, **_environment(folder), MARK: mark},
        )  # fmt: skip
        try:
            code, hung = process.wait(HANGS), False
        except subprocess.TimeoutExpired:
            hung = True
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        hung |= bool(_left(mark))
    killed = code == -signal.SIGKILL and not hung
    return Ended(printed.read_text(errors="replace"), [] if killed else [code], killed, hung)


def traced_python(path: Path, tracer: Sequence[str], pattern: str, python: str = sys.executable) -> Path:
    """A script in the place of Python that traces the first process whose rank and arguments match a pattern of sh.

    The tracer is not its parent (-D): a process that tesla starts ends with its parent, and looks who that is.
    """
    traced = shlex.join([tracer[0], "-D", *tracer[1:], python])
    path.write_text(
        f"""#!/bin/sh
case "$RANK $*" in {pattern}) mkdir {shlex.quote(f"{path}.once")} && exec {traced} "$@" ;; esac
exec {shlex.quote(python)} "$@"
"""
    )
    path.chmod(0o755)
    return path


def _left(mark: str) -> list[psutil.Process]:
    """Processes of a command that are left a minute after its end; they are killed."""
    until = time.monotonic() + LINGERS
    while True:
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
        if not left or time.monotonic() > until:
            break
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return left


def _attached(tracer: Sequence[str], child: int) -> "subprocess.Popen[str]":
    """A tracer that has hold of a process."""
    process = subprocess.Popen([*tracer, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    if "attached" not in said:
        os.kill(child, signal.SIGKILL)
        raise RuntimeError(f"strace did not attach: {said}{process.stderr.read()}")
    return process


def _waited(child: int) -> tuple[int, bool]:
    until = time.monotonic() + HANGS
    hung = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, hung
        if time.monotonic() > until and not hung:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _say(words: str) -> None:
    """Write to standard output, even if a call is refused that was counted for another thread."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            os.write(1, words.encode())
            return


def _environment(folder: Path) -> dict[str, str]:
    return {
        "TESLA_CACHE": str(folder / "cache"), "TESLA_CONFIG": str(folder / "config"),
        "TESLA_COMPILED": str(folder / "compiled"), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip


def _become(folder: Path, commands: Sequence[tuple[str, ...]], system: Faulty | None, gate: int, ready: int) -> None:
    code = 99
    try:
        os.chdir(folder)
        loaded = set(sys.modules)
        os.environ.update(_environment(folder))
        out = os.open(_beside(folder, "printed"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if system is not None:
            install(system)
        from tesla_tui.main import main as tesla

        os.write(ready, b"1")
        os.close(ready)
        os.read(gate, 1)
        for command in commands:
            sys.argv = ["tesla", *command]
            try:
                code = tesla()
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
            _say(f"\nexit {int(code)}\n")
        with contextlib.suppress(OSError):  # as in `_say`
            _beside(folder, "loaded").write_text("\n".join(sys.modules.keys() - loaded))
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")

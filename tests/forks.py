"""Commands as processes of their own that do not load PyTorch each time (two seconds of a processor).

The first command starts a server: a Python that has imported what `tesla` imports and has computed nothing. Every
command is a fork of it, with its own process id, signals, files, environment and exit code. What a fork cannot show is
how a process starts: tests of start-up and imports use `COMMAND` (tests/processes.py).
"""

import atexit
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).parents[1]


class ForkedTesla:
    """A running `tesla`, with what tests use of `subprocess.Popen`.

    Args:
        words: the arguments of `tesla`.
        stdout: where its output goes; None: kept for `communicate`.
        stderr: the same for its errors.
        cwd: its folder, the tests' own by default.
        env: its environment, the tests' own by default.
        terminal: a pseudo-terminal's end that takes the place of all three streams and controls the process.
        ignored: signals that it finds ignored, as `nohup` leaves them.
        largest_file: bytes that a file which it writes may have.
        changed: module attributes by their dotted names, and what they are in this process.
    """

    def __init__(
        self, *words: object, stdout: IO[str] | None = None, stderr: IO[str] | None = None,
        cwd: Path | None = None, env: Mapping[str, str] | None = None, terminal: int | None = None,
        ignored: Collection[int] = (), largest_file: int | None = None,
        changed: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        # Files, not pipes: nobody reads while the process runs.
        self._files = [tempfile.TemporaryFile("w+") if file is None else file for file in (stdout, stderr)]  # noqa: SIM115
        self._own = [stdout is None, stderr is None]
        for file in self._files:
            if file not in (stdout, stderr):
                weakref.finalize(self, file.close)
        self.returncode: int | None = None
        request = {
            "argv": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "terminal": terminal is not None,
            "ignored": list(ignored),
            "largest_file": largest_file,
            "changed": dict(changed or {}),
        }
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), *(file.fileno() for file in self._files)]
            self.pid = _server().fork(request, [terminal] * 3 if terminal is not None else streams)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = _server().exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code."""
        until = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("tesla", timeout or 0)
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; what it wrote to its own standard output and error."""
        self.wait(timeout)
        texts = ["", ""]
        for i, file in enumerate(self._files):
            if self._own[i]:
                file.seek(0)
                texts[i] = file.read()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.wait()


class _Server:
    """The server's other end, in the tests' process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        # One thread: a process with several cannot be forked safely.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", str(theirs.fileno())], cwd=ROOT, env={**os.environ, **single},
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._unread = b""
        self._ended: dict[int, int] = {}
        self._forked: list[int] = []

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """Start a command; its process id."""
        socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], streams)
        while not self._forked:
            self._read(block=True)
        return self._forked.pop()

    def exit_code(self, pid: int) -> int | None:
        """As `Popen.poll`."""
        self._read(block=False)
        return self._ended.pop(pid, None)

    def close(self) -> None:
        """End the server; it kills what it still has."""
        self._socket.close()
        self._process.wait()

    def _read(self, block: bool) -> None:
        while select.select([self._socket], [], [], None if block else 0)[0]:
            said = self._socket.recv(1 << 16)
            if not said:
                raise RuntimeError(f"the server of forks ended: {self._process.wait()}")
            *lines, self._unread = (self._unread + said).split(b"\n")
            for kind, pid, *code in map(json.loads, lines):
                if kind == "ended":
                    self._ended[pid] = code[0]
                else:
                    self._forked.append(pid)
            block = False


_started: list[_Server] = []


def _server() -> _Server:
    if not _started:
        _started.append(_Server())
        atexit.register(_started[0].close)
    return _started[0]


def _serve(descriptor: int) -> None:
    """Fork on request until the tests end."""
    _load()
    ear = socket.socket(fileno=descriptor)
    children: set[int] = set()
    while True:
        if select.select([ear], [], [], 0.02 if children else None)[0]:
            message, streams, _, _ = socket.recv_fds(ear, 1 << 20, 3)
            if not message:
                break
            while not message.endswith(b"\n"):
                message += ear.recv(1 << 20)
            child = os.fork()
            if child == 0:
                ear.close()
                _become(json.loads(message), streams)
            children.add(child)
            for stream in streams:
                os.close(stream)
            ear.sendall(json.dumps(["forked", child]).encode() + b"\n")
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.discard(child)
                code = os.waitstatus_to_exitcode(status)
                ear.sendall(json.dumps(["ended", child, code]).encode() + b"\n")
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _load() -> None:
    """What commands import, but not what a test may hold up (`datasets`) nor what few need (screens, a compiler)."""
    import pkgutil

    import tesla_tui.cli
    import tests.engine.faulty
    import tests.gated_import.sitecustomize  # noqa: F401

    for name in (
        "engine.session.session", "engine.tools.exchange.export", "engine.runs.status", "engine.training.evaluation",
        "psutil", "PIL.PngImagePlugin", "rich.console", "rich.progress", "rich.table", "sympy", "numpy.ma",
        *(f"tesla_tui.cli.{module.name}" for module in pkgutil.iter_modules(tesla_tui.cli.__path__)),
    ):  # fmt: skip
        import_module(name)
    gc.collect()
    gc.freeze()


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Run the command in this fork as `python -m tesla_tui.main` would, and end."""
    code = 1
    try:
        if request["terminal"]:
            import fcntl
            import termios

            os.setsid()
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        if request["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        for name, value in request["changed"].items():
            module, _, attribute = name.rpartition(".")
            setattr(import_module(module), attribute, value)
        sys.argv = ["tesla_tui.main", *request["argv"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # `tesla_tui.main` may be imported already
            runpy.run_module("tesla_tui.main", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

"""A function in a process of its own: for measurements that must not see each other's allocator, caches or peak.

    run_to_end(run_isolated("engine.tools.bench.gradient:measure", {"mode": "exact"}))

calls `measure(mode="exact")` in a fresh interpreter and gives back the dictionary it returns, with the peak of the
process beside it.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import TeslaError

_running: set["subprocess.Popen[str]"] = set()

MARK = "\x1eresult "
"""Begins the one line of output that is the answer; whatever else a library prints is not."""


def run_isolated(
    function: str, arguments: Mapping[str, Any], *, environment: Mapping[str, str] | None = None
) -> Generator[float, None, dict[str, Any]]:
    """Call `package.module:function` with JSON-able keyword arguments in a new process. Closing ends the process.

    Yields:
        Every fifth of a second, the seconds that have passed.

    Args:
        function: import path; the function returns a JSON-able dictionary.
        arguments: its keyword arguments.
        environment: variables to set besides this process's own.

    Returns:
        What the function returned, and `peak_bytes`: the greatest resident size of the process, bytes.

    Raises:
        TeslaError: the process failed; the message has its last words.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "engine.runtime.subprocesses",
        function,
        json.dumps(dict(arguments)),
        str(os.getpid()),
    ]
    begun = time.monotonic()
    # Files, not pipes: nobody reads while the process runs. A session of its own: Ctrl-C is the caller's to handle.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            text=True,
        )
        _running.add(process)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                yield time.monotonic() - begun
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            _running.discard(process)
        out.seek(0)
        err.seek(0)
        lines, words_said = out.read().split("\n"), err.read()  # not splitlines(): it splits at the mark itself
    answers = [line[len(MARK) :] for line in lines if line.startswith(MARK)]
    if process.returncode or not answers:
        words = " ".join(words_said.strip().splitlines()[-2:])
        if process.returncode < 0:
            words = f"ended by signal {-process.returncode} (9: usually out of memory). {words}"
        raise TeslaError(f"Measuring {function} failed: {words.strip() or 'it said nothing'}")
    found: dict[str, Any] = json.loads(answers[-1])
    return found


def end_all() -> None:
    """Kill what this process measures; for one that ends without closing its generators."""
    for process in list(_running):
        process.kill()


def _end_with(parent: int) -> None:
    # A caller that is killed cannot end what it started.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def peak_bytes() -> int:
    """The greatest resident size of this process so far, bytes.

    Linux hands the `ru_maxrss` of a large parent down to what it starts, so the process's own record comes first.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    path, arguments, parent = sys.argv[1:4]
    threading.Thread(target=_end_with, args=(int(parent),), name="tesla-parent", daemon=True).start()
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    sys.stdout.write(f"{MARK}{json.dumps({**found, 'peak_bytes': peak_bytes()})}\n")


if __name__ == "__main__":
    _main()

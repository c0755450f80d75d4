"""Run a function in its own process: for measurements that must not share an allocator, caches or a peak.

    run_to_end(run_isolated("engine.tools.bench.gradient:measure", {"mode": "exact"}))

calls `measure(mode="exact")` in a new interpreter and returns the dictionary that it returns, with the peak memory of
the process added.
"""

import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import ExitCode, OutOfMemoryError, TeslaError
from engine.runtime.memory_limits import memory_words
from engine.runtime.out_of_memory import is_out_of_memory
from engine.runtime.parent import child_environment, end_with_parent

_running: set["subprocess.Popen[str]"] = set()

MARK = "\x1eresult "
"""Starts the output line with the answer, since libraries may print others."""

ERROR = "error"
"""Key of an answer that is an error."""


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
        TeslaError: what the function raised; or a signal ended the process.
        ProcessError: the function raised an unexpected error; its traceback is in the notes.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "engine.runtime.subprocesses",
        function,
        json.dumps(dict(arguments)),
    ]
    started = time.monotonic()
    # Files, not pipes: nothing reads while the process runs. A new session: Ctrl-C is for the caller.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=child_environment(environment),
            start_new_session=True,
            text=True,
        )
        _running.add(process)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                yield time.monotonic() - started
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
        words = words_said.strip().splitlines()[-2:]
        if process.returncode < 0:
            ended = f"ended by signal {-process.returncode} (9: usually out of memory). {' '.join(words)}"
            raise TeslaError(f"Measuring {function} failed: {ended.strip()}")
        error = ProcessError(f"{function} in a process of its own: {words[-1] if words else 'no error output'}")
        error.add_note(words_said)
        raise error
    return found_or_raised(json.loads(answers[-1]))


class ProcessError(Exception):
    """An unexpected error in a process that `run_isolated` started; its notes have what that process wrote."""


@contextlib.contextmanager
def passing_errors() -> Iterator[None]:
    """Give the caller's process an error that has a message for the user, instead of an answer."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error = OutOfMemoryError(*memory_words(error))
        elif not isinstance(error, TeslaError):
            raise
        sys.stdout.write(f"{MARK}{json.dumps({ERROR: [error.message, error.hint, error.exit_code]})}\n")


def found_or_raised(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, unless it is an error of `passing_errors`, which is raised."""
    if ERROR in answer:
        message, hint, code = answer[ERROR]
        error = TeslaError(message, hint)
        error.exit_code = ExitCode(code)
        raise error
    return answer


def end_all() -> None:
    """Kill all processes started here; for a caller that ends without closing its generators."""
    for process in list(_running):
        process.kill()


def peak_bytes() -> int:
    """The greatest resident size of this process so far, bytes.

    On Linux a child inherits the `ru_maxrss` of its parent, so the process's own record comes first.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    end_with_parent()
    path, arguments = sys.argv[1:3]
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    sys.stdout.write(f"{MARK}{json.dumps({**found, 'peak_bytes': peak_bytes()})}\n")


if __name__ == "__main__":
    with passing_errors():
        _main()

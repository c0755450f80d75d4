"""A function in a process of its own: for measurements that must not see each other's allocator, caches or peak.

    isolated("engine.bench.gradient:measure", {"mode": "exact"})

calls `measure(mode="exact")` in a fresh interpreter and gives back the dictionary it returns, with the peak of the
process beside it.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from engine.errors import TeslaError

MARK = "\x1eresult "
"""Begins the one line of output that is the answer; whatever else a library prints is not."""


def isolated(
    function: str, arguments: Mapping[str, Any], *, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Call `package.module:function` with JSON-able keyword arguments in a new process.

    Args:
        function: import path; the function returns a JSON-able dictionary.
        arguments: its keyword arguments.
        environment: variables to set besides this process's own.

    Returns:
        What the function returned, and `peak_bytes`: the greatest resident size of the process, bytes.

    Raises:
        TeslaError: the process failed; the message has its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "engine.isolated", function, json.dumps(dict(arguments))],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    # Not splitlines(): it splits at the mark itself.
    answers = [line[len(MARK) :] for line in done.stdout.split("\n") if line.startswith(MARK)]
    if done.returncode or not answers:
        words = " ".join(done.stderr.strip().splitlines()[-2:])
        if done.returncode < 0:
            words = f"ended by signal {-done.returncode} (9: usually out of memory). {words}"
        raise TeslaError(f"Measuring {function} failed: {words.strip() or 'it said nothing'}")
    found: dict[str, Any] = json.loads(answers[-1])
    return found


def peak_bytes() -> int:
    """The greatest resident size of this process so far, bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    path, arguments = sys.argv[1:3]
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    sys.stdout.write(f"{MARK}{json.dumps({**found, 'peak_bytes': peak_bytes()})}\n")


if __name__ == "__main__":
    _main()

"""A process that measures one thing repeatedly, each time on request.

Rounds go round over many such processes, so that other load on the machine affects all of them equally; a separate
process for each keeps allocators, caches and peaks apart, and lives on so that each compiles only once.

The child calls `prepare(**arguments)`, which gives a function, and says that it is ready; each line on its standard
input calls that function, and the dictionary it returns goes back as one line of JSON. It ends with its input or with
its parent.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from engine.errors import TeslaError
from engine.runtime.parent import child_environment, end_with_parent
from engine.runtime.subprocesses import MARK, found_or_raised, passing_errors


class Worker:
    """The parent's end.

    Args:
        function: import path `package.module:prepare`.
        arguments: its keyword arguments, JSON-able.
    """

    def __init__(self, function: str, arguments: Mapping[str, Any]) -> None:
        # Not a pipe: it is read only at the end, and a full one would block the child.
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.tools.bench.worker", function, json.dumps(dict(arguments))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=child_environment(),
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children itself
        )

    def ready(self) -> None:
        """Wait until it is prepared.

        Raises:
            TeslaError: the process failed; the message has its last output.
        """
        self._answer()

    def measure(self) -> dict[str, Any]:
        """One measurement.

        Raises:
            TeslaError: see `ready`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return found_or_raised(json.loads(line[len(MARK) :]))
        raise self._failure()

    def _failure(self) -> TeslaError:
        code = self._process.wait()
        self._complaints.seek(0)
        words = " ".join(self._complaints.read().strip().splitlines()[-1:])
        if code < 0:
            words = f"ended by signal {-code} (9: usually out of memory). {words}"
        return TeslaError(f"Measuring failed: {words.strip() or 'no error output'}")

    def close(self) -> None:
        """End the process, at once."""
        self._process.kill()
        self._process.communicate()
        self._complaints.close()


def _main() -> None:
    end_with_parent()
    path, arguments = sys.argv[1:3]
    module, _, name = path.partition(":")
    run = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    _say({})
    for _ in sys.stdin:
        _say(run())


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with passing_errors():
        _main()

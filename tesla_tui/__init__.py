"""The terminal workbench: the `tesla` command over the engine."""

import sys
from importlib.util import find_spec
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout on the path, which no installer has looked at
    sys.exit(f"tesla needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable}).")
if sys.platform == "win32":  # no file locks, terminal modes or signals as they are needed here
    sys.exit("tesla runs on Linux and macOS. On Windows, install it in WSL: https://learn.microsoft.com/windows/wsl")

COMMANDS = ("-m", "tesla")
"""`sys.argv[0]` of a command while its package loads; anything else is a program that imports this one."""


def _another_engine() -> Path | None:
    """The module `engine` that Python finds, if it is not ours: `python -m` and torchrun look in the current folder
    first."""
    spec = find_spec("engine") if "engine" not in sys.modules else sys.modules["engine"].__spec__
    ours = Path(__file__).parents[1] / "engine" / "__init__.py"
    found = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return None if found is None or found.resolve() == ours.resolve() else found


if (_found := _another_engine()) is not None:
    _words = (
        f"Python finds {_found} before the module `engine` of tesla. Rename it, or start tesla with the command "
        "`tesla`, `python -P -m tesla_tui.main`, or `PYTHONSAFEPATH=1 torchrun ...`."
    )
    if Path(sys.argv[0]).name not in COMMANDS:
        raise ImportError(_words)
    sys.stderr.write(f"Error: {_words}\n")
    sys.exit(2)

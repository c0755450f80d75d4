"""Dataset distillation by matching training trajectories: a library that prints nothing and knows no interface.

What is exported here is the public interface (see `engine.tools.library`). It is loaded when it is asked for.
"""

import sys
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout on the path, which no installer has looked at
    raise ImportError(f"The engine needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable}).")
if sys.platform == "win32":
    raise ImportError("The engine runs on Linux and macOS. On Windows, install it in WSL.")

if TYPE_CHECKING:
    from engine.matching.gradient import matching_gradient
    from engine.runs.workspace import Workspace
    from engine.tools.any_set import Accuracy
    from engine.tools.library import (
        DistilledSet,
        distil,
        distil_events,
        evaluate,
        export,
        load_set,
        open_workspace,
    )

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "DistilledSet",
    "Workspace",
    "distil",
    "distil_events",
    "evaluate",
    "export",
    "load_set",
    "matching_gradient",
    "open_workspace",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # PyTorch takes a second to load: not for `tesla --version`

    modules = {"matching_gradient": "engine.matching.gradient", "Workspace": "engine.runs.workspace"}
    return getattr(import_module(modules.get(name, "engine.tools.library")), name)

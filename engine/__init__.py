"""Dataset distillation by matching training trajectories: a library that prints nothing and knows no interface."""

import sys

if sys.platform == "win32":
    raise ImportError("The engine runs on Linux and macOS. On Windows, install it in WSL.")

__version__ = "0.1.0"

"""The terminal workbench: the `tesla` command over the engine."""

import sys

if sys.platform == "win32":  # no file locks, terminal modes or signals as they are needed here
    sys.exit("tesla runs on Linux and macOS. On Windows, install it in WSL: https://learn.microsoft.com/windows/wsl")

"""Commands to paste: they call the program that is running, and survive spaces in names."""

import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from engine.errors import quoted

PASTED = re.compile(r"(?:(?<=: )|^)tesla (?=[a-z])")
"""A command at the end of an engine hint; the engine does not know how the program was called."""


def program() -> str:
    """How to call this program again, for a shell.

    `tesla` where the shell finds it; else the path it was called by, or its interpreter. From below the current folder
    the path is short, from anywhere else it is whole: dots that climb are hard to read, and wrong after a `cd`.
    """
    if shutil.which("tesla") or sys.argv[0] == "tesla":  # the bare name: the shell found it
        return "tesla"
    script = Path(sys.argv[0])
    if script.name == "tesla" and script.is_file():
        return quoted(_short(script))
    return f"{quoted(_short(Path(sys.executable)))} -m tesla_tui.main"


def _short(path: Path) -> str:
    # Not resolved: the interpreter of an environment is a link to one that lacks its packages.
    whole = Path.cwd() / path
    if not whole.is_relative_to(Path.cwd()) or os.pardir in whole.parts:
        return os.path.normpath(whole)
    near = str(whole.relative_to(Path.cwd()))
    return near if os.sep in near else f"{os.curdir}{os.sep}{near}"


def command(*words: object) -> str:
    """A call of this program, its words quoted where a shell would take them apart."""
    return f"{program()} {quoted(*words)}"


def set_options(overrides: Iterable[str]) -> list[str]:
    """`key=value` texts as the words of a command: `--set key=value --set ...`."""
    return [word for text in overrides for word in ("--set", text)]


def callable_here(hint: str) -> str:
    """A hint whose commands can be pasted here."""
    called = program()
    return hint if called == "tesla" else PASTED.sub(lambda _: f"{called} ", hint)

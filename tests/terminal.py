"""A terminal: `tesla` runs in a pseudo-terminal of it, bytes are typed, and what is drawn can be read."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.cells import cell_len

from tests.forks import ForkedTesla
from tests.processes import HANGS

SEQUENCE = re.compile(
    r"\x1b\[(?P<csi>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b[\]P_^X].*?(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"
    r"|(?P<char>[^\x1b])",
    re.DOTALL,
)
"""A control sequence, a string for the terminal, a shorter sequence, or a character. Half a string is none of them."""


NOT_ITS_OWN = ("NO_COLOR", "TMUX", "COLUMNS", "LINES")
"""Variables that say something of another terminal."""


class Drawing:
    """Draws what a `tesla` command writes: Textual places every piece of text, rich goes up and erases whole lines.

    Args:
        size: columns and rows.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._cells = [[" "] * size[0] for _ in range(size[1])]
        self._at = (0, 0)
        self._unread = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    @property
    def lines(self) -> list[str]:
        """What is drawn."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """What is drawn, in one."""
        return "\n".join(self.lines)

    def draw(self, data: bytes) -> None:
        """Draw these bytes."""
        text = self._unread + self._decoder.decode(data)
        place = 0
        while match := SEQUENCE.match(text, place):
            place = match.end()
            if match["char"]:
                self._put(match["char"])
            elif match["final"] == "H":
                row, _, column = match["csi"].partition(";")
                self._at = (int(row or 1) - 1, int(column or 1) - 1)
            elif match["final"] == "A":
                self._at = (max(0, self._at[0] - int(match["csi"] or 1)), self._at[1])
            elif match["final"] == "K" and self._at[0] < len(self._cells):
                self._cells[self._at[0]] = [" "] * len(self._cells[0])
        self._unread = text[place:]

    def _put(self, char: str) -> None:
        y, x = self._at
        if char == "\r":
            self._at = (y, 0)
        elif char == "\n":
            self._at = (y + 1, x)
        elif char >= " ":
            if x >= len(self._cells[0]):
                y, x = y + 1, 0
            if 0 <= y < len(self._cells) and x < len(self._cells[0]):
                self._cells[y][x] = char
                if cell_len(char) == 2 and x + 1 < len(self._cells[0]):
                    self._cells[y][x + 1] = ""  # it covers the next column too
            self._at = (y, x + cell_len(char))


class Terminal(Drawing):
    """A pseudo-terminal with a `tesla` command in it.

    Args:
        words: the arguments of `tesla`.
        size: columns and rows.
        config: the preferences file of the command.
        images: how it is told to draw pictures.
        cell: pixels of a character, (width, height).
        env: its environment, the tests' own by default.
        changed: module attributes by their dotted names, and what they are in the command's process.
        term: its name, by which programs know what it can do.
    """

    def __init__(
        self,
        *words: object,
        size: tuple[int, int] = (100, 30),
        config: Path,
        images: str = "blocks",
        cell: tuple[int, int] = (0, 0),
        env: Mapping[str, str] | None = None,
        changed: Mapping[str, object] | None = None,
        term: str = "xterm-256color",
    ) -> None:
        super().__init__(size)
        self.received = bytearray()
        """All that was written to it."""
        self._ours, theirs = pty.openpty()
        columns, rows = size
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, columns * cell[0], rows * cell[1]))
        environment = {name: value for name, value in (env or os.environ).items() if name not in NOT_ITS_OWN}
        environment |= {"TERM": term, "TESLA_TUI_CONFIG": str(config), "TESLA_IMAGES": images}
        self.process = ForkedTesla(*words, env=environment, terminal=theirs, changed=changed)
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, data: bytes) -> None:
        """Send bytes in one chunk."""
        os.write(self._ours, data)

    def look(self, seconds: float = 0.05) -> None:
        """Draw what arrives within that time."""
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                data = os.read(self._ours, 65536)
                self.received += data
                self.draw(data)
            except OSError:  # the command has ended
                time.sleep(seconds)

    def wait_for(self, words: str) -> None:
        """Until that is drawn."""
        self.wait_until(lambda: words in self.text, words)

    def wait_until(self, true: Callable[[], object], what: str) -> None:
        """Until a function returns true."""
        end = time.monotonic() + HANGS
        while not true():
            assert time.monotonic() < end, f"not drawn: {what}\n{self._printable}"
            self.look()
            assert true() or self.process.poll() is None, (
                f"it ended, {self.process.returncode}, before: {what}\n{self._printable}"
            )

    @property
    def _printable(self) -> str:
        """What is drawn; bytes that are no text are spelled out, as a report of a failure must be text."""
        return self.text.encode(errors="backslashreplace").decode()

    def ended(self) -> int:
        """Draw until the command ends, which waits for what it writes to be read; its exit code."""
        self.wait_until(lambda: self.process.poll() is not None, "its end")
        self.rest()
        return self.process.wait()

    def rest(self, seconds: float = 1.0) -> None:
        """Draw until nothing arrives for a moment, at most that long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()

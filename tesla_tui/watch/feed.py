"""Following a run from its files: the journal's new lines, the pulse, and what state it is in."""

from pathlib import Path

from engine.journal import read_lines
from engine.pulse import Pulse, read_pulse
from engine.run import Run
from engine.status import liveness
from engine.workspace import Driver, driver_of
from tesla_tui.watch.view import RunView

SLICE = 4 * 2**20
"""Bytes of journal read at once, so that a long one does not stop the screen."""


class RunFeed:
    """A run, followed. `poll` reads what is new; it is cheap when nothing is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view = RunView()
        self.pulse: Pulse | None = None
        self.state = "new"
        """`new` (never started), or as in `RunStatus.state`."""
        self.driver: Driver | None = None
        """Who drives it, if anybody does."""
        self._offset = 0
        self._inode = 0

    @property
    def live(self) -> bool:
        """Whether somebody drives it."""
        return self.state in ("running", "paused", "stalled")

    def catch_up(self) -> None:
        """Read the whole journal as it is now."""
        while self._read():
            pass
        self._look()

    def poll(self) -> bool:
        """Read at most one slice; whether anything changed."""
        before = (self.view.events, self.state, self.pulse)
        self._read()
        self._look()
        return before != (self.view.events, self.state, self.pulse)

    def _read(self) -> bool:
        path: Path = self.run.journal_file
        try:
            facts = path.stat()
        except OSError:
            return False
        if facts.st_ino != self._inode or facts.st_size < self._offset:  # another file, or cut: start over
            self._inode, self._offset, self.view = facts.st_ino, 0, RunView()
        if facts.st_size == self._offset:
            return False
        values, offset = read_lines(path, self._offset, SLICE)
        if offset == self._offset:
            return False
        self._offset = offset
        self.view.fold(values)
        return True

    def _look(self) -> None:
        self.pulse = read_pulse(self.run.pulse_file)
        live = liveness(self.run)
        if live:
            if not self.live or self.driver is None or (self.pulse and self.pulse.pid != self.driver.pid):
                self.driver = driver_of(self.run)
            self.state = live
            return
        if not self.run.exists:
            self.state = "new"
        elif self.view.ending == "finished" and self._asks_for_more():
            self.state = "stopped"
        else:
            self.state = self.view.ending or ("interrupted" if self.view.events else "stopped")

    def _asks_for_more(self) -> bool:
        return self.view.iteration < self.view.iterations

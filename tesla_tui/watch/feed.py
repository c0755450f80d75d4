"""Following a run from its files: the journal's new lines, the pulse, and what state it is in."""

from pathlib import Path

from engine.runs.heartbeat import Heartbeat, read_heartbeat
from engine.runs.journal import read_lines
from engine.runs.run import Run
from engine.runs.status import liveness
from engine.runs.workspace import driver_of
from engine.storage.lock import Holder
from tesla_tui.watch.view import RunView

SLICE = 4 * 2**20
"""Bytes of journal read at once, so that a long one does not stop the screen."""


class RunFeed:
    """A run, followed. `poll` reads what is new; it is cheap when nothing is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view = RunView()
        self.pulse: Heartbeat | None = None
        self.state = "new"
        """`new` (never started), or as in `RunStatus.state`."""
        self.driver: Holder | None = None
        """Who drives it, if anybody does."""
        self._offset = 0
        self._inode = 0
        self._torn = -1
        """Size of the file when nothing whole was left to read in it."""

    @property
    def live(self) -> bool:
        """Whether a process is driving it."""
        return self.state in ("running", "paused", "stalled")

    def catch_up(self) -> None:
        """Read everything new in the journal, however much it is.

        The first time it is shown all at once at the end, so that a screen may draw `view` while a thread does this.
        """
        view = self.view if self._offset else RunView()
        while self._more():
            view = self._fold_slice(view)
        self.view = view
        self._look()

    def poll(self) -> bool:
        """Read at most one slice; whether anything changed."""
        before = (self.view.events, self.state, self.pulse)
        if self._more():
            self.view = self._fold_slice(self.view)
        self._look()
        return before != (self.view.events, self.state, self.pulse)

    def _more(self) -> bool:
        """Whether the journal has grown, or is another file than it was."""
        try:
            facts = self.run.journal_file.stat()
        except OSError:
            return False
        return facts.st_ino != self._inode or facts.st_size not in (self._offset, self._torn)

    def _fold_slice(self, view: RunView) -> RunView:
        path: Path = self.run.journal_file
        facts = path.stat()
        if facts.st_ino != self._inode or facts.st_size < self._offset:  # another file, or cut: start over
            self._inode, self._offset, view = facts.st_ino, 0, RunView()
        values, offset = read_lines(path, self._offset, SLICE)
        self._torn = facts.st_size if offset == self._offset else -1  # a torn last line: wait until it grows
        self._offset = offset
        view.fold(values)
        return view

    def _look(self) -> None:
        self.pulse = read_heartbeat(self.run.pulse_file)
        live = liveness(self.run)
        if live:
            if not self.live or self.driver is None or (self.pulse and self.pulse.pid != self.driver.pid):
                self.driver = driver_of(self.run)
            self.state = live
            return
        if not self.run.exists:
            self.state = "new"
        elif self.run.origin_file.exists():
            self.state = "imported"
        elif self.view.ending == "finished" and self._asks_for_more():
            self.state = "stopped"
        else:
            self.state = self.view.ending or ("interrupted" if self.view.events else "stopped")

    def _asks_for_more(self) -> bool:
        return self.view.iteration < self.view.iterations

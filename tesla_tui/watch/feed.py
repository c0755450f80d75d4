"""Following a run from its files: the journal's new lines, the heartbeat, and its state."""

from pathlib import Path

from engine.errors import UnreadableFileError
from engine.runs.heartbeat import Heartbeat, read_heartbeat
from engine.runs.history import SLICE
from engine.runs.journal import read_lines
from engine.runs.liveness import driver_of, liveness
from engine.runs.run import Run
from engine.runs.status import read_state
from engine.storage.holder import Holder
from tesla_tui.render.words import unread_words
from tesla_tui.watch.view import RunView


class RunFeed:
    """A run, followed. `poll` reads what is new; it is cheap when nothing is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view = RunView()
        self.heartbeat: Heartbeat | None = None
        self.state = "new"
        """`new` (never started), `gone` (what was read before is no longer there), or as in `RunStatus.state`."""
        self.trouble = ""
        """Why its files cannot be read now, as a sentence; what was read before is kept."""
        self.driver: Holder | None = None
        """The process that drives it, if one does."""
        self._offset = 0
        self._inode = 0
        self._torn = -1
        """Size of the file when no whole line was left to read in it."""

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
        if (newest := max(self.run.checkpoints(), default=None)) is not None:
            view.note_checkpoint(newest)
        self.view = view
        self._look()

    def poll(self) -> bool:
        """Read at most one slice; whether anything changed."""
        before = (self.view.events, self.state, self.heartbeat, self.trouble)
        try:
            if self._more():
                self.view = self._fold_slice(self.view)
            self._look()
            self.trouble = ""
        except UnreadableFileError as error:  # perhaps next time
            self.trouble = unread_words(error)
        return before != (self.view.events, self.state, self.heartbeat, self.trouble)

    def _more(self) -> bool:
        """Whether the journal has grown, or is another file than it was."""
        try:
            facts = self.run.journal_file.stat()
        except OSError:
            return False
        return facts.st_ino != self._inode or facts.st_size not in (self._offset, self._torn)

    def _fold_slice(self, view: RunView) -> RunView:
        path: Path = self.run.journal_file
        try:
            facts = path.stat()
        except OSError:  # deleted just now
            return view
        if facts.st_ino != self._inode or facts.st_size < self._offset:  # another file, or cut: start over
            self._inode, self._offset, view = facts.st_ino, 0, RunView()
        values, offset = read_lines(path, self._offset, SLICE)
        self._torn = facts.st_size if offset == self._offset else -1  # a torn last line: wait until it grows
        self._offset = offset
        view.fold(values)
        return view

    def _look(self) -> None:
        self.heartbeat = read_heartbeat(self.run.heartbeat_file)
        was_live = self.live
        self.state = read_state(self.run, self.view, liveness(self.run))
        if self.state == "new" and self.view.events:
            self.state = "gone"
        if self.live and not (
            was_live and self.driver and (self.heartbeat is None or self.heartbeat.pid == self.driver.pid)
        ):
            self.driver = driver_of(self.run)

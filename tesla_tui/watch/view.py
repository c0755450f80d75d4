"""A run as the screens show it: its history, and the lines of its log."""

from collections import deque
from dataclasses import dataclass, field

from engine.events import Notice, RunFinished, RunStopped
from engine.runs.history import RunHistory
from engine.runs.journal import Entry
from tesla_tui.watch.log import LogLine, log_line

MOST_LINES = 5000
"""Lines of the log that are kept for searching."""


@dataclass
class RunView(RunHistory):
    """Everything the screens know of a run. `fold` keeps it up to date, in bounded memory."""

    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    notice: LogLine | None = None
    """The newest notice, warning or error; after the end, only what is more than information."""
    warnings: int = 0
    """Warnings and errors so far."""

    def see(self, entry: Entry) -> int | None:
        """Take in one entry, and its line of the log if it has one."""
        line = log_line(entry.event, entry.time)
        if line is not None:
            self.log.append(line)
            self.warnings += line.level != "info"
            if line.level != "info" or line.kind == Notice.__name__:
                self.notice = line
        ended = isinstance(entry.event, RunFinished | RunStopped)
        if ended and self.notice is not None and self.notice.level == "info":
            self.notice = None  # it was about what was going on
        return super().see(entry)

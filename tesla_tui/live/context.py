"""What the tabs look at."""

from dataclasses import dataclass

from engine.runs.run import Run
from engine.runs.workspace import Workspace
from tesla_tui.live.preferences import Preferences
from tesla_tui.watch.devices import Devices
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.now import Now
from tesla_tui.watch.previews import Film

SMOOTHING = (("off", 0), ("low", 9), ("mid", 33), ("high", 129))
"""Names and widths in buckets of at most 1024."""
NO_RUNS = Now("No runs yet.", press="Press n to start one.")


@dataclass
class Context:
    """The run on screen and what belongs to it; one object for the whole workbench."""

    workspace: Workspace
    preferences: Preferences
    devices: Devices
    read_only: bool = False
    """Runs are neither started nor stopped from this window."""
    feed: RunFeed | None = None
    """The run that is shown; None while there is none, or the newest cannot be read."""
    film: Film | None = None
    driving: bool = False
    """Whether this process drives it."""
    preparing: str = ""
    """What the engine does before it takes the run, as text."""
    trouble: str = ""
    """Why the open tab cannot read its files now, as a sentence."""
    empty: Now = NO_RUNS
    """What is said while no run is on the screen."""
    loading: bool = False
    """The journal is still being read."""
    smoothing: int = 0
    """Of every curve that is noisy: an index of `SMOOTHING`."""
    read: int = 0
    """Warnings and errors of the run that were seen in the log."""

    def __post_init__(self) -> None:
        self.smoothing = self.preferences.smoothing

    def open(self, run: Run) -> RunFeed:
        """Put another run on the screen, existing or about to be."""
        self.feed, self.film, self.read = RunFeed(run), Film(run), 0
        self.loading = run.journal_file.exists()
        return self.feed

    def look(self) -> bool:
        """Read what is new; whether anything is."""
        changed = self.feed is not None and not self.loading and self.feed.poll()
        return (self.film is not None and self.film.look()) or changed

    def unread(self, *, reading: bool) -> int:
        """Warnings and errors that were not seen yet; `reading`: the log is open, so all are."""
        warnings = self.feed.view.warnings if self.feed is not None else 0
        if reading:
            self.read = warnings
        return max(0, warnings - self.read)

    def smooth_more(self) -> None:
        """The next degree of smoothing; after the last one, none."""
        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)

    @property
    def trend(self) -> int:
        """Width of the smoothing."""
        return SMOOTHING[self.smoothing][1]

    @property
    def trend_note(self) -> str:
        """What a chart says about it."""
        return f"avg {SMOOTHING[self.smoothing][0]}" if self.smoothing else ""

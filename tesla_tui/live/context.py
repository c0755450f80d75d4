"""What the tabs look at."""

from dataclasses import dataclass

from engine.runs.workspace import Workspace
from tesla_tui.live.preferences import Preferences
from tesla_tui.watch.devices import Devices
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.previews import Film


@dataclass
class Context:
    """The run on screen and what belongs to it; one object for the whole workbench."""

    workspace: Workspace
    preferences: Preferences
    devices: Devices
    feed: RunFeed | None = None
    """The run that is shown; None while the workspace has none."""
    film: Film | None = None
    driving: bool = False
    """Whether this process drives it."""
    preparing: str = ""
    """What the engine does before it takes the run, as text."""
    loading: bool = False
    """The journal is still being read."""

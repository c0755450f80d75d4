"""The keys that act on the run on screen, and when they can."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from tesla_tui.live.context import Context
from tesla_tui.live.engine_thread import EngineThread
from tesla_tui.live.screens.actions import RunActions
from tesla_tui.live.screens.devices import DevicesScreen
from tesla_tui.live.screens.requests import EngineRequests


class RunScreen(Screen[None]):
    """A screen over one run. The workbench sets what is declared here, and draws the run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # The footer shows them in this order, as many as fit.
        Binding("space", "pause", "start/pause", id="run.pause"),
        Binding("question_mark", "app.help", "help", key_display="?", id="app.help"),
        Binding("q", "app.leave", "quit", id="app.quit"),
        Binding("b", "best", "best", id="run.best"),
        Binding("e", "evaluate", "evaluate", id="run.evaluate"),
        Binding("s", "save", "save", id="run.save"),
        Binding("x", "export", "export", id="run.export"),
        Binding("f", "film", "film", show=False, id="run.film"),
        Binding("n", "new", "new run", id="run.new"),
        Binding("g", "devices", "devices", id="run.devices"),
        Binding("t", "take_over", "take over", id="run.take-over"),
    ]

    context: Context
    engine: EngineThread | None
    """The engine that runs in this process."""
    requests: EngineRequests
    run_actions: RunActions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide keys that do nothing now."""
        feed = self.context.feed
        if action == "take_over":
            return (
                feed is not None and self.engine is None and feed.state not in ("new", "gone", "finished", "imported")
            )
        if action in ("evaluate", "save"):
            return self.engine is not None
        if action in ("export", "best", "film"):
            return feed is not None
        return True

    def action_pause(self) -> None:
        """Pause, resume, or start."""
        if self.engine is not None:
            self.requests.pause_or_resume()
        elif self.context.feed is None:
            self.action_new()
        elif self._may_start():
            self.run_actions.resume_or_explain()

    def action_evaluate(self) -> None:
        """Measure the images as they are now."""
        self.requests.evaluate()

    def action_save(self) -> None:
        """A checkpoint now."""
        self.requests.save()

    def action_film(self) -> None:
        """Write the images over the iterations to a file."""
        self.run_actions.film()

    def action_export(self) -> None:
        """Write the distilled dataset into a folder."""
        self.run_actions.export()

    def action_new(self) -> None:
        """The form for a new run."""
        if self._may_start():
            self.run_actions.new()

    def action_devices(self) -> None:
        """All GPUs and the processor, with their history."""
        self.app.push_screen(DevicesScreen(self.context.devices))

    def action_take_over(self) -> None:
        """Drive the run here."""
        if self._may_start():
            self.run_actions.take_over()

    def _may_start(self) -> bool:
        """Whether runs may be started and stopped from here; says so if not."""
        if self.context.read_only:
            self.notify("Read-only: opened with --watch. To start or stop runs, open it without.", severity="warning")
        return not self.context.read_only

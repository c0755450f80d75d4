"""The part of a workbench that the actions on a run use."""

from collections.abc import Callable
from typing import Any, Protocol

from textual.app import App
from textual.notifications import SeverityLevel

from engine.runs.run import Run
from engine.settings import EffectiveSettings
from tesla_tui.live.context import Context
from tesla_tui.live.dialogs.new_run import NewRun
from tesla_tui.live.engine_thread import EngineThread


class Bench(Protocol):
    """A workbench, as its actions see it."""

    context: Context
    engine: EngineThread | None

    @property
    def app(self) -> App[Any]:
        """Shows dialogs and runs workers."""

    @property
    def drives_shown(self) -> bool:
        """Whether the run on screen is driven in this window."""

    def look_now(self) -> None:
        """Update at once."""

    def drive(self, run: Run, effective: EffectiveSettings) -> None:
        """Start the engine for a run in its thread, and show it."""

    def open_run(self, run: Run, then: Callable[[], None] | None = None) -> None:
        """Show a run."""

    def begin(self, made: NewRun) -> None:
        """Start a new run here and show it."""

    def stop_engine(self, after: Callable[[], None]) -> None:
        """Stop the engine; call `after` when it has saved."""

    def action_tab(self, number: int) -> None:
        """Open a tab."""

    def report(self, title: str, error: BaseException) -> None:
        """Show an error."""

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Show a notification."""

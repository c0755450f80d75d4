"""When the engine stopped on an error: what happened, what is saved, what to do."""

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.runs.run import Run
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.render.words import clean


class ErrorScreen(ModalScreen[bool]):
    """The cause, the last checkpoint and what to do. Returns whether to try again."""

    HELP = "`r` tries again from the last checkpoint, `escape` closes this and shows the run."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "retry", "try again", id="error.retry"),
        Binding("escape,enter", "close", "show the run", key_display="esc", id="error.close"),
        Binding("q", "app.leave", "quit", id="app.quit"),
    ]

    def __init__(self, run: Run, *, message: str, hint: str, report: Path | None) -> None:
        super().__init__()
        self._run, self._message, self._hint, self._report = run, message, hint, report

    def compose(self) -> ComposeResult:
        """Cause, state, way on."""
        colours = self.app.theme_variables
        saved = max(self._run.checkpoints(), default=None)
        text = Text(clean(self._message), style=f"bold {colours['error']}")
        if self._hint:
            text.append(f"\n\n{clean(self._hint)}", style="not bold " + colours["foreground"])
        state = "No checkpoint yet. Finished teachers are kept." if saved is None else (
            f"Everything up to iteration {saved} is saved and intact."
        )  # fmt: skip
        text.append(f"\n\n{state}", style="not bold " + colours["foreground"])
        if self._report is not None:
            words = f"\n\nThis is an unexpected error. Please attach {self._report} to a bug report."
            text.append(words, style="not bold " + colours["quiet"])
        with Vertical(classes="dialog -error") as dialog:
            dialog.border_title = f"{self._run.name} stopped on an error"
            with VerticalScroll(classes="dialog-scroll"):
                yield Static(text, classes="dialog-text")
            yield Static("r: try again   esc: show the run   q: quit", classes="quiet")
        yield KeyLine()

    def action_retry(self) -> None:
        """From the last checkpoint."""
        self.dismiss(True)

    def action_close(self) -> None:
        """View the run as it is."""
        self.dismiss(False)

"""What a tab is to the workbench."""

from textual.containers import Vertical

from tesla_tui.live.context import Context


class Pane(Vertical):
    """A tab. Only the open one is updated."""

    HELP = ""
    """A paragraph for the help of where you are."""

    def __init__(self, context: Context, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.context = context

    def update_view(self) -> None:
        """Draw what is new. Called when the tab opens, at every change of the run, and when another run is opened."""

    def look_around(self) -> None:
        """Draw what changes by itself while the run does not: the machine, other runs. Called at every tick."""

    def run_changed(self) -> None:
        """Another run was opened: forget what was remembered of the last."""

    def focus_first(self) -> None:
        """Put the focus where keys are expected."""
        self.focus()

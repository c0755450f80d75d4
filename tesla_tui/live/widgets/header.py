"""The two lines on top: what run this is and how it is, and the tabs."""

import time
from collections.abc import Mapping

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.storage.holder import Holder
from tesla_tui.render.words import clean, duration
from tesla_tui.watch.feed import RunFeed

STATES = {
    "new": ("○", "quiet"),
    "gone": ("✕", "error"),
    "running": ("●", "success"),
    "paused": ("‖", "warning"),
    "stalled": ("▲", "warning"),
    "stopped": ("■", "quiet"),
    "interrupted": ("▲", "error"),
    "failed": ("✕", "error"),
    "finished": ("✓", "success"),
    "imported": ("✓", "success"),
}
"""Sign and colour of a state; the sign says it without colour too."""


class RunBar(Widget):
    """One line: workspace, run, data; at the right the state and who drives."""

    DEFAULT_CSS = "RunBar { height: 1; background: $panel; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._left = Text("tesla", style="bold")
        self._right = Text()
        self.can_focus = False

    def show(self, workspace: str, feed: RunFeed | None, badge: str) -> None:
        """What to say about a run. `badge`: who drives it."""
        colours = self.app.theme_variables
        left = Text(no_wrap=True, overflow="ellipsis")
        left.append(" tesla ", style=f"bold {colours['background']} on {colours['primary']}")
        left.append(f" {clean(workspace)}")
        right = Text(no_wrap=True)
        if feed is not None:
            left.append(" › ", style=colours["quiet"])
            left.append(clean(feed.run.name), style="bold")
            data = feed.view.data
            settings = feed.view.settings
            if data is not None:
                left.append(
                    f"  {clean(data.name)}, {data.classes} classes, {data.resolution}px", style=colours["quiet"]
                )
            if "distill.ipc" in settings:
                left.append(f", IPC {settings['distill.ipc']}", style=colours["quiet"])
            sign, colour = STATES.get(feed.state, STATES["stopped"])
            if badge:
                right.append(f"{badge} ", style=colours["quiet"])
            right.append(f" {sign} {feed.state} ", style=f"bold {colours['background']} on {colours[colour]}")
        if (left, right) != (self._left, self._right):  # else every tick would send the line again
            self._left, self._right = left, right
            self.refresh()

    def render(self) -> Text:
        """The line, the left part shortened where it must be."""
        width = self.content_size.width
        left = self._left.copy()
        room = max(0, width - self._right.cell_len - 1)
        left.truncate(room, overflow="ellipsis", pad=True)
        return Text.assemble(left, " ", self._right)


def badge_words(driven_here: bool, live: bool, driver: Holder | None, read_only: bool) -> str:
    """Who drives a run. `read_only`: not from here."""
    if driven_here:
        return "driven here"
    if not live:
        return "READ-ONLY" if read_only else ""
    if driver is None:
        return "READ-ONLY"
    where = "" if driver.mine else f" on {clean(driver.host)}"
    return f"READ-ONLY: process {driver.pid}{where}, {duration(max(0.0, time.time() - driver.since))}"


class TabBar(Static):
    """The tabs, with their keys."""

    DEFAULT_CSS = "TabBar { height: 1; width: 1fr; background: $surface; padding: 0 1; }"

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names
        self._current = 0
        self._counts: Mapping[str, int] = {}

    def show(self, current: int, counts: Mapping[str, int]) -> None:
        """Which one is open, and by name how many warnings wait in one."""
        if (current, counts) != (self._current, self._counts):
            self._current, self._counts = current, counts
            self.refresh()

    def _labels(self) -> list[str]:
        waiting = [f" !{self._counts[name]}" if self._counts.get(name) else "" for name in self._names]
        tight = self.content_size.width < sum(len(name) + 5 for name in (*self._names, "".join(waiting)))
        names = [name[:4] if tight else name for name in self._names]
        return [f" {n} {name}{more} " for n, (name, more) in enumerate(zip(names, waiting, strict=True), 1)]

    def render(self) -> Text:
        """The line."""
        colours = self.app.theme_variables
        text = Text(no_wrap=True, overflow="crop")
        for number, label in enumerate(self._labels()):
            if number:
                text.append(" ")
            style = f"bold {colours['primary']} on {colours['panel']}" if number == self._current else colours["quiet"]
            plain, sign, count = label.partition("!")
            text.append(plain, style=style).append(sign + count, style=f"bold {colours['warning']}")
        return text

    def on_click(self, event: events.Click) -> None:
        """Open the tab under the mouse."""
        at = 1
        for number, label in enumerate(self._labels()):
            if at <= event.x < at + len(label):
                self.post_message(self.Picked(number))
            at += len(label) + 1

"""One line on every tab: what is happening now, and the newest notice."""

import time
from dataclasses import replace

from rich.text import Text
from textual.widget import Widget

from tesla_tui.live.context import Context
from tesla_tui.watch.log import LogLine
from tesla_tui.watch.now import Now, now

SIGNS = {"info": ("·", "quiet"), "warning": ("!", "warning"), "error": ("✕", "error")}
"""Sign and colour of a notice."""
LEAST = 16
"""Columns below which a notice says nothing."""


def happening(context: Context) -> Now:
    """What is going on with the run on screen, in one line."""
    if context.preparing:
        return Now(f"{context.preparing} …")
    if context.loading:
        return Now("reading the journal …")
    if context.trouble:
        return Now(context.trouble, "error")
    feed = context.feed
    found = context.empty if feed is None else now(feed)
    others = feed is not None and feed.live and not context.driving
    return replace(found, press="") if context.read_only or others else found


class StatusLine(Widget):
    """Above the keys. What happens has priority; the notice takes the rest of the line."""

    DEFAULT_CSS = "StatusLine { height: 1; background: $surface; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._drawn: tuple[object, ...] = ()

    def show(self, doing: Now, notice: LogLine | None) -> None:
        """Say this."""
        drawn = (doing, notice, self.app.theme)
        if drawn != self._drawn:
            self._drawn = drawn
            self._doing, self._notice = doing, notice
            self.refresh()

    def render(self) -> Text:
        """The line."""
        if not self._drawn:
            return Text()
        colours, width = self.app.theme_variables, self.content_size.width
        colour = {"info": "foreground", "good": "success"}.get(self._doing.level, self._doing.level)
        words = f"{self._doing.text} {self._doing.press}".rstrip()
        text = Text(words, style=colours[colour], no_wrap=True)
        room = width - text.cell_len - 3
        if self._notice is not None and room >= LEAST:
            sign, colour = SIGNS[self._notice.level]
            when = time.strftime("%H:%M", time.localtime(self._notice.time))
            notice = Text(f"{sign} {when} {self._notice.text}", style=colours[colour], no_wrap=True)
            notice.truncate(room, overflow="ellipsis")
            text.append(" " * (width - text.cell_len - notice.cell_len)).append_text(notice)
        text.truncate(width, overflow="ellipsis")
        return text

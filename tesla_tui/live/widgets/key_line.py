"""The last line: the keys of the current view, as many as fit, those that lead out among them. A click presses one.

Why not Textual's Footer: it recreates a widget for every key whenever the focus moves, which took most of the time of
opening a tab while an engine holds the cores. This is one line of text.
"""

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget

SEPARATOR = "  "
ALWAYS = ("app.quit", "app.help", "run.pause")
"""Ids of the keys that are shown first, however narrow the terminal is."""


class KeyLine(Widget):
    """Draws the active bindings that want to be shown."""

    DEFAULT_CSS = "KeyLine { height: 1; dock: bottom; background: $surface; padding: 0 1; }"

    def on_mount(self) -> None:
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def _shown(self) -> list[tuple[str, Binding]]:
        """Keys that fit, with how they are written."""
        found: dict[str, tuple[str, Binding]] = {}
        for _, binding, enabled, _tooltip in self.screen.active_bindings.values():
            if binding.show and enabled:
                found.setdefault(binding.action, (self.app.get_key_display(binding), binding))
        room = self.content_size.width + len(SEPARATOR)
        kept: set[str] = set()
        # A stable sort: what one always needs, then the others as they come.
        for key, binding in sorted(found.values(), key=lambda one: one[1].id not in ALWAYS):
            room -= len(key) + 1 + len(binding.description) + len(SEPARATOR)
            if room < 0:
                break
            kept.add(binding.action)
        return [one for action, one in found.items() if action in kept]

    def render(self) -> Text:
        """The line."""
        colours = self.app.theme_variables
        text = Text(no_wrap=True, overflow="crop")
        for number, (key, binding) in enumerate(self._shown()):
            if number:
                text.append(SEPARATOR)
            text.append(key, style=f"bold {colours['accent']}")
            text.append(f" {binding.description}", style=colours["quiet"])
        return text

    async def on_click(self, event: events.Click) -> None:
        """Press the key under the mouse."""
        at = 1
        for key, binding in self._shown():
            end = at + len(key) + 1 + len(binding.description)
            if at <= event.x < end:
                self.app.simulate_key(binding.key.partition(",")[0])
                return
            at = end + len(SEPARATOR)

"""Tab 6: the effective settings, and where each comes from."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Static

from engine.errors import TeslaError
from engine.settings import EffectiveSettings
from tesla_tui.live.context import Context
from tesla_tui.live.panes.search import SearchPane
from tesla_tui.live.setting_words import meaning, shortened, value_words
from tesla_tui.live.widgets.field import Field

EMPTY = "No runs yet. A new run in this workspace gets these settings."


class SettingsPane(SearchPane):
    """All settings, searchable; the meaning of the one under the cursor below."""

    HELP = """
Later layers win: defaults, the preset of dataset and IPC, tesla.toml, its `[ipc.N]` table, the command line. `d` hides
defaults. A run's settings are frozen when it starts; to change them, edit tesla.toml and start a new run.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", key_display="/", id="settings.search"),
        Binding("d", "changed", "changed only", id="settings.changed"),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__(context, id="settings")
        self._changed = False
        self._drawn: tuple[object, ...] = ()
        self._keys: list[str] = []

    def compose(self) -> ComposeResult:
        """Search, table, meaning."""
        with Horizontal(classes="search-line"):
            yield Field(placeholder="/ to search, enter to finish", id="settings-search")
            yield Static(id="settings-words")
        yield DataTable(id="settings-table", cursor_type="row")
        yield Static(id="settings-meaning")

    def on_mount(self) -> None:
        """The table's head."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in ("setting", "value", "from"):
            table.add_column(name, key=name)

    def run_changed(self) -> None:
        """Other settings."""
        self._drawn = ()

    def action_changed(self) -> None:
        """Only what is not a default, or all."""
        self._changed = not self._changed
        self.update_view()

    def on_data_table_row_highlighted(self, message: DataTable.RowHighlighted) -> None:
        """Say what the setting under the cursor means."""
        if 0 <= message.cursor_row < len(self._keys):
            key = self._keys[message.cursor_row]
            text = Text(f"{key}  ", style="bold").append(meaning(key), style="not bold")
            self.query_one("#settings-meaning", Static).update(text, layout=False)

    def _effective(self) -> EffectiveSettings | None:
        feed = self.context.feed
        try:
            if feed is not None and feed.run.exists:
                return feed.run.frozen()
            return self.context.workspace.settings()
        except TeslaError as error:
            self.query_one("#settings-words", Static).update(Text(str(error), style=self.app.theme_variables["error"]))
            return None

    def update_view(self) -> None:
        """The table, if it is not drawn yet."""
        feed = self.context.feed
        starts = feed.view.started if feed else None
        exists = feed is not None and feed.run.exists
        drawn = (self._wanted, self._changed, self.app.theme, exists, starts, feed.run.name if feed else "")
        if drawn == self._drawn:
            return
        effective = self._effective()
        if effective is None:
            return
        self._drawn = drawn
        table: DataTable[Text] = self.query_one(DataTable)
        table.clear()
        self._keys = []
        colours = self.app.theme_variables
        for key, value in effective.flat().items():
            origin = effective.origins[key]
            words = value_words(value)
            plain = origin == "default"
            found = f"{key} {words} {origin}".lower()
            if (plain and self._changed) or not all(word in found for word in self._wanted.lower().split()):
                continue
            self._keys.append(key)
            style = "" if plain else "bold"
            table.add_row(
                Text(key, style=colours["foreground"] if plain else colours["primary"]),
                Text(shortened(words, max(24, self.size.width - 58)), style=style),
                Text(origin, style=colours["quiet"]),
            )
        words = f"{table.row_count} settings" + (", changed only" if self._changed else "")
        if not exists:
            words = f"{EMPTY}  {words}" if self.size.width > 110 else words
        self.query_one("#settings-words", Static).update(words)

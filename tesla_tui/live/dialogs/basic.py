"""Small questions and messages over the workbench."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Markdown, Static

from engine.errors import TeslaError
from tesla_tui.live.widgets.field import Field, typed_path
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.render.words import clean


@dataclass(frozen=True)
class Choice:
    """An answer: a key, what stands on the button, what it means."""

    id: str
    key: str
    label: str
    words: str = ""


class Ask(ModalScreen[str | None]):
    """A question with buttons; each has a key. Ends with the id of the answer, None for escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_none", "cancel", key_display="esc"),
        Binding("up,left", "app.focus_previous", show=False),
        Binding("down,right", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Title, text, answers."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            yield Static(Text(self._text), classes="dialog-text")
            for choice in self._choices:
                label = Text.assemble((f" {choice.key} ", "reverse"), f"  {choice.label}")
                if choice.words:
                    label.append(f"  {choice.words}", style="dim")
                yield Button(label, id=f"answer-{choice.id}", classes="answer", compact=True)

    def on_mount(self) -> None:
        """The first answer has the focus."""
        self.query(Button).first().focus()

    def on_key(self, event: object) -> None:
        """Keys of the answers."""
        pressed = getattr(event, "character", None)
        for choice in self._choices:
            if pressed and pressed == choice.key:
                self.dismiss(choice.id)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer."""
        self.dismiss((event.button.id or "").removeprefix("answer-"))

    def action_dismiss_none(self) -> None:
        """No answer."""
        self.dismiss(None)


class FolderPrompt(ModalScreen[Path | None]):
    """The path of a folder to fill in. Ends with it, None for escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss_none", "cancel", key_display="esc")]

    def __init__(self, title: str, text: str, value: str) -> None:
        super().__init__()
        self._title, self._text, self._value = title, text, value

    def compose(self) -> ComposeResult:
        """Title, text, field."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            yield Static(Text(self._text), classes="dialog-text")
            yield Field(self._value, id="prompt-input")
            yield Static(id="prompt-path")
            yield Static("enter: confirm   esc: cancel", classes="quiet")

    def on_input_changed(self) -> None:
        """Say which folder that is."""
        self._path()

    def on_input_submitted(self) -> None:
        """Done, unless it is no path."""
        path = self._path()
        if path is None:
            self.app.bell()
        else:
            self.dismiss(path)

    def _path(self) -> Path | None:
        """The path that is typed, shown as it will be; None if it is none, and why."""
        text, colours = self.query_one(Field).text, self.app.theme_variables
        path, words, colour = None, "Enter a folder.", colours["error"]
        if text:
            try:
                path = typed_path(text, Path.cwd())
                words, colour = clean(str(path)), colours["quiet"]
            except TeslaError as error:
                words = str(error)
        self.query_one("#prompt-path", Static).update(Text(words, style=colour))
        return path

    def action_dismiss_none(self) -> None:
        """Nothing."""
        self.dismiss(None)


class Message(ModalScreen[None]):
    """An error: what happened, where, and what to do next."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "close", key_display="esc")]

    def __init__(self, title: str, body: str) -> None:
        super().__init__()
        self._title, self._body = title, body

    def compose(self) -> ComposeResult:
        """Title, text."""
        with Vertical(classes="dialog -error") as dialog:
            dialog.border_title = self._title
            with VerticalScroll(classes="dialog-scroll"):
                yield Static(Text(self._body), classes="dialog-text")
            yield Static("esc: close", classes="quiet")

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)


class Busy(ModalScreen[None]):
    """Something that takes a moment; nothing to answer."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """Title, text."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            yield Static(Text(self._text), id="busy-text", classes="dialog-text")

    def say(self, text: str) -> None:
        """Another text."""
        self.query_one("#busy-text", Static).update(Text(text))


class HelpScreen(ModalScreen[None]):
    """Help for the current screen, and every key with its id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "close", key_display="esc"),
    ]

    def __init__(self, title: str, text: str, keys: Sequence[tuple[str, str, str]], preferences: str) -> None:
        super().__init__()
        self._title, self._text, self._keys, self._preferences = title, text, keys, preferences

    def compose(self) -> ComposeResult:
        """Text, keys, where to change them."""
        with Vertical(classes="dialog -help") as dialog:
            dialog.border_title = self._title
            with VerticalScroll(classes="dialog-scroll") as scroll:
                scroll.can_focus = True
                if self._text.strip():
                    yield Markdown(self._text.strip())
                yield Static(self._table(), classes="dialog-text")
                yield Static(
                    Text(f"To change a key, set it by id in {self._preferences}:\n  [keys]\n  {self._example()}"),
                    classes="quiet",
                )
            yield KeyLine()

    def _example(self) -> str:
        return next((f'"{name}" = "f5"' for _, _, name in self._keys if name), "")

    def _table(self) -> Text:
        text = Text()
        width = max((len(keys) for keys, _, _ in self._keys), default=1)
        words = max((len(what) for _, what, _ in self._keys), default=1)
        for keys, what, name in self._keys:
            text.append(f" {keys:<{width}} ", style="bold")
            text.append(f" {what:<{words}} ").append(f" {name}\n", style="dim")
        return text

    def on_mount(self) -> None:
        """Scrollable with keys at once."""
        self.query_one(VerticalScroll).focus()

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)

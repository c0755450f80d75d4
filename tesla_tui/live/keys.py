"""Input from the terminal: keys in the order they were typed, and bytes that are not UTF-8 or no sequence of keys.

Textual sends a key to the widget that has the focus when the key arrives. Keys that arrive in one chunk (a slow link, a
paste, a fast typist) all arrive before the first of them has moved the focus, so `/check` would start an evaluation:
`e` still belongs to the workbench. Here the next key waits until the last one has done what it does.
"""

import codecs
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from textual import events
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.app import App
from textual.drivers import linux_driver, web_driver
from textual.keys import Keys
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import WorkerFailed

from engine.errors import ExitCode

PATIENCE = 2.0
"""Seconds after which a key is sent although the last one was not seen to be done: its widget is gone."""

ROUNDS = 3
"""How often a message follows a key up to the app: behind the key, behind what its action posted (a line submitted, a
row selected), and behind what the handlers of that posted (a run opened)."""

Typed = events.Key | events.Paste


class KeyDone(Message):
    """Follows a key from its widget up to the app, through the same queues."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class KeyQueue:
    """Sends keys and pastes one by one.

    Args:
        app: the app; it passes `KeyDone` on to `done`.
        deliver: sends one to the widget that has the focus.
    """

    def __init__(self, app: App[Any], deliver: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._deliver = deliver
        self._waiting: deque[Typed] = deque()
        self._number = self._rounds = 0
        self._target: Widget | None = None
        """Where the last key went, until it is done."""
        self._screen: Screen[Any] | None = None
        self._rescue: Timer | None = None

    async def put(self, event: Typed) -> None:
        """Send this one, now or when those before it are done."""
        self._waiting.append(event)
        if self._busy():
            self._watch()
        else:
            await self._send()

    async def done(self, number: int) -> None:
        """A key is done: send the next, once the screen that it opened or returned to has its focus."""
        if number != self._number:
            return
        self._rounds += 1
        if self._rounds < ROUNDS and self._busy() and self._follow():
            return
        screen = self._app.screen
        if screen is not self._screen:
            self._screen = self._target = screen
            if screen.call_after_refresh(self._app.call_later, self.done, number):
                return
        self._target = None
        if self._waiting:
            await self._send()

    def _busy(self) -> bool:
        target = self._target
        return target is not None and target.is_attached and target.screen in self._app.screen_stack

    async def _send(self) -> None:
        self._number += 1
        self._screen = self._app.screen
        self._target = self._app.focused or self._screen
        await self._deliver(self._waiting.popleft())
        self._rounds = 0
        self._follow()
        self._watch()

    def _follow(self) -> bool:
        return self._target is not None and self._target.post_message(KeyDone(self._number))

    def _watch(self) -> None:
        """While keys wait: send the next anyway if the last one is lost with its widget."""
        if self._waiting and self._rescue is None:
            self._rescue = self._app.set_timer(PATIENCE, partial(self._lost, self._number))

    async def _lost(self, number: int) -> None:
        self._rescue = None
        if self._waiting and number == self._number:
            await self._send()
        self._watch()


class InputThreadError(Exception):
    """The thread that reads the keys ended; the notes have its traceback."""


class TypedApp(App[str]):
    """An app that takes keys one by one, and that keeps the error that ends it for its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        """What ended the screens, to be raised when the terminal is restored."""
        self._typed = KeyQueue(self, self._deliver)

    async def on_event(self, event: events.Event) -> None:
        """Keys and pastes wait for those before them."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            await self._typed.put(event)
        else:
            await super().on_event(event)

    async def _deliver(self, event: Typed) -> None:
        await super().on_event(event)

    def on_key_done(self, message: KeyDone) -> None:
        """The next key, behind whatever the last one left to do: a focus that moves is such a thing."""
        self.call_later(self._typed.done, message.number)

    def _handle_exception(self, error: Exception) -> None:
        """End the screens because of an error in a handler."""
        if isinstance(error, WorkerFailed):
            error = error.error if isinstance(error.error, Exception) else error
        super()._handle_exception(error)
        self._return_code = ExitCode.INTERNAL
        self.failure = self.failure or error

    def _fatal_error(self) -> None:
        """Close the screens without a traceback, with which Textual would print the values of all variables."""
        self.bell()
        self._close_messages_no_wait()

    def panic(self, *renderables: RenderableType) -> None:
        """Close the screens because of an error in the thread that reads the keys, which Textual gives as text only."""
        if self._exception is None:
            with StringIO() as text:
                Console(file=text, width=120, no_color=True).print(*renderables)
                self.failure = self.failure or InputThreadError("the input of the terminal cannot be read")
                self.failure.add_note(text.getvalue())
        self._return_code = ExitCode.INTERNAL
        self._fatal_error()


KITTY_KEY = re.compile(r"\x1b\[(\d*)[\d:]*(?:;(\d*)(?::(\d*))?)?(;[\d:]*)?([A-Zu~])")
"""A key in Kitty's protocol: its code, modifiers, event, text and end; with what Textual does not ask terminals for."""
RELEASED = "3"
"""Event of a key in Kitty's protocol that is let go."""
ANSWER = re.compile(r"\x1b[\]P_^X][^\x1b\x07]*(?:\x1b\\|\x07)")
"""A string that the terminal answers with."""
UNKNOWN = re.compile(r"\x1b\[(?![\[<M])[0-?]*[ -/]*[@-~](?<!\$y)")
"""A whole control sequence, unless it is one that Textual reads later: of the mouse, of a mode, of Linux's console."""


class KeyParser(XTermParser):
    """Makes events of what the terminal sends. Textual's own ends the app on a sequence that it misreads, and takes for
    typed text what it does not know: late answers to questions, and all that follows an escape in a paste."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pasting = False
        self._cut = ""
        """What may be the start of the end of a paste."""

    def feed(self, data: str) -> Iterable[Message]:
        """Read this; nothing at the end."""
        text = self._plain(data)
        return super().feed(text) if text or not data else ()

    def _plain(self, data: str) -> str:
        """Without answers, and without escapes in what is pasted."""
        data, self._cut = self._cut + data, ""
        found = []
        while data:
            text, end, data = data.partition(BRACKETED_PASTE_END if self._pasting else BRACKETED_PASTE_START)
            if self._pasting:
                at = text.rfind("\x1b")
                if not end and at >= 0 and BRACKETED_PASTE_END.startswith(text[at:]):
                    text, self._cut = text[:at], text[at:]
                text = text.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
            else:
                text = ANSWER.sub("", text)
            found += [text, end]
            self._pasting ^= bool(end)
        return "".join(found)

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[events.Key]:
        """Its keys; none while it is not whole."""
        ignored = [events.Key(Keys.Ignore, sequence)]
        if ":" in sequence and (key := KITTY_KEY.fullmatch(sequence)) is not None:
            code, modifiers, event, text, end = key.groups(default="")
            if event == RELEASED:
                return ignored
            sequence = f"\x1b[{code};{modifiers or 1}{text}{end}"
        try:
            found = list(super()._sequence_to_key_events(sequence, alt))
        except (ValueError, OverflowError):  # no number, or no character
            return ignored
        return found or ignored * bool(UNKNOWN.fullmatch(sequence))

    def parse_mouse_code(self, code: str) -> Message | None:
        """What the mouse did."""
        if not (self.terminal_pixel_size and self.terminal_size):  # a size without an area is False
            self.terminal_pixel_size = None  # it does not know how large a character is
        return super().parse_mouse_code(code)


def replace_bad_bytes() -> None:
    """Read bytes that are not UTF-8 as the replacement character, and leave out sequences that are no key.

    Textual's drivers end the app with an error.
    """
    for driver in (linux_driver, web_driver):
        driver.getincrementaldecoder = _replacing_decoder  # type: ignore[attr-defined]
        driver.XTermParser = KeyParser  # type: ignore[attr-defined]


def _replacing_decoder(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    return partial(codecs.getincrementaldecoder(encoding), errors="replace")

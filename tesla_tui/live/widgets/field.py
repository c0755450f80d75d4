"""The one line of text to type into, used by every search, form and dialog."""

import os
import re
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.validation import ValidationResult, Validator
from textual.widgets import Input

from engine.errors import UsageError
from tesla_tui.render.words import clean

DIGITS = 9
"""Most digits of a whole number: more is a slip, and Python refuses to read thousands of them."""


class WholeNumber(Validator):
    """A whole number of at least 1.

    Args:
        what: the number is, at the start of a sentence.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def validate(self, value: str) -> ValidationResult:
        """Whether it is one, and if not, why."""
        if re.fullmatch(rf"[0-9]{{1,{DIGITS}}}", value.strip()) and int(value) >= 1:
            return self.success()
        shown = f"`{clean(value)}`" if value else "empty"
        return self.failure(f"{self._what} must be a whole number of at least 1, not {shown}.")


class Field(Input):
    """A line of text. `escape` puts back what it first held; if it holds that, `escape` is left to the screen.

    Args:
        value: what it holds at first.
        number: what the whole number in it is, at the start of a sentence; empty for any text.
        optional: it may stay empty.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "reset", "clear", show=False)]

    def __init__(
        self, value: str = "", *, number: str = "", optional: bool = False, placeholder: str = "",
        id: str | None = None,  # noqa: A002
    ) -> None:  # fmt: skip
        validators = [WholeNumber(number)] if number else []
        super().__init__(
            value, placeholder, id=id, compact=True, validators=validators, valid_empty=optional or not number
        )
        self._first = value

    @property
    def text(self) -> str:
        """What it holds, without spaces around it."""
        return self.value.strip()

    def suggest(self, value: str) -> None:
        """Hold a value that was not typed; `escape` puts it back."""
        self._first = value
        if self.value != value:
            self.value = value

    def whole(self) -> int | None:
        """The whole number in it; None if it is optional and empty.

        Raises:
            UsageError: it holds something else.
        """
        found = self.validate(self.value)
        if found is not None and not found.is_valid:
            raise UsageError(" ".join(found.failure_descriptions))
        return int(self.text) if self.text else None

    def action_reset(self) -> None:
        """Put back what it first held, or leave the key to whatever is around it."""
        if self.value == self._first:
            raise SkipAction
        self.value = self._first

    def _on_paste(self, event: events.Paste) -> None:
        """Lines in one, without what would steer the terminal."""
        event.prevent_default()
        event.stop()
        self.replace(clean(" ".join(event.text.splitlines())).strip(), *self.selection)


def typed_path(text: str, folder: Path) -> Path:
    """A path that was typed, absolute and without `..`; `~` is a home folder.

    Args:
        text: typed by the user.
        folder: what a relative one is relative to.

    Raises:
        UsageError: `~` names no user.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{text}: there is no user of this name.", "Write ./~name for a folder of that name."
        ) from error
    return Path(os.path.normpath(folder.absolute() / path))

"""Settings as text: their value as a user writes it, and what they mean."""

from typing import Any

from engine.settings.facts import FIELDS
from tesla_tui.render.words import clean


def value_words(value: Any) -> str:
    """A plain value as it would stand in tesla.toml, without quotes."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return clean(", ".join(map(str, value)))
    return clean(f"{value:g}" if isinstance(value, float) else str(value))


def shortened(text: str, most: int) -> str:
    """At most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def meaning(key: str) -> str:
    """The help text of a setting, in one line; empty for one of another version."""
    field = FIELDS.get(key)
    return " ".join(((field and field.description) or "").split())

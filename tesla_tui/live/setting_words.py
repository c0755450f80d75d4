"""Settings in words: their value as a person writes it, and what they mean."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from engine.settings import Settings
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


@cache
def _meanings() -> dict[str, str]:
    found = {}
    for section, field in Settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            for name, part in inner.model_fields.items():
                found[f"{section}.{name}"] = part.description or ""
        else:
            found[section] = field.description or ""
    return found


def meaning(key: str) -> str:
    """The help text of a setting, in one line."""
    return " ".join(_meanings().get(key, "").split())

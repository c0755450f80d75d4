"""Settings files as tables: reading TOML that anyone may have written, and dotted keys instead of nesting."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, SettingsError
from engine.settings.toml_errors import decoded_toml, explained
from engine.storage.untrusted import read_bounded

Flat = dict[str, Any]
"""Dotted key to value."""

FORMAT = 1
"""Version of tesla.toml and settings.toml, their optional key `format`: raised when a key is renamed or changes its
meaning, not when one is added."""

MOST_TOML = 2**18
"""Bytes of a settings file; the commented template has 12,000."""
DEEPEST = 8
"""Tables in tables that are looked into; settings are three deep."""
MOST_DOTS = 100
"""Dots in a line that is no comment. Python's parser takes time with the square of a dotted key's parts: 18 s
for 40,000 of them."""
LONGEST = 60
"""Characters of a wrong key or value that an error repeats."""


def flatten(nested: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Flat:
    """Nested tables to dotted keys.

    Raises:
        SettingsError: nested too deeply.
    """
    if depth > DEEPEST:
        raise SettingsError(f"`{prefix[:LONGEST]}` ... is nested too deeply.", "Settings are at most two tables deep.")
    flat: Flat = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}.", depth + 1))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys to nested tables."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    return nested


def value_words(value: Any) -> str:
    """A value for people: words without quotes, a list without brackets."""
    if value is None:
        return "unset"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value).strip('"')


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a settings file.

    Raises:
        SettingsError: not a file, not TOML, too large, or nested too deeply.
        OSError: it cannot be read.
    """
    text = ""
    try:
        text = decoded_toml(read_bounded(path, MOST_TOML))
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > MOST_DOTS and not line.lstrip().startswith("#"):
                raise SettingsError(f"Line {number} of {path} is nested too deeply.", "Settings are three names deep.")
        return tomllib.loads(text)
    except CorruptFileError as error:
        raise SettingsError(error.message, error.hint) from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        what, hint = explained(text, error)
        raise SettingsError(f"{path} is not valid TOML: {what}.", hint) from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply.", "Settings are at most two tables deep.") from error

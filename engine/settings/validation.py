"""Keys and values checked against the schema; errors name key, value, origin, and what to do."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from engine.errors import SettingsError
from engine.settings.facts import FIELDS
from engine.settings.settings import Settings
from engine.settings.tables import LONGEST, nest


def check_keys(keys: Iterable[str], origin: str) -> None:
    """Check that every key is a setting.

    Raises:
        SettingsError: names the first that is not, and the setting nearest to it.
    """
    for key in keys:
        if key in FIELDS:
            continue
        if any(known.startswith(f"{key}.") for known in FIELDS):
            raise SettingsError(
                f"`{key}` ({origin}) is a group, not a setting.", f"See `tesla config` for what is in {key}."
            )
        shown = key if len(key) <= LONGEST else f"{key[:LONGEST]}..."
        near = _nearest(shown)
        hint = f"Did you mean `{near}`?" if near else "`tesla config` lists every key."
        raise SettingsError(f"There is no setting `{shown}` ({origin}).", hint)


def _nearest(key: str) -> str | None:
    """The setting that a wrong key most likely means: by its whole name, else by its last part."""
    near = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
    if near:
        return near[0]
    names = [known.rpartition(".")[2] for known in FIELDS]
    last = difflib.get_close_matches(key.rpartition(".")[2], names, n=1)
    return next((known for known in FIELDS if last and known.rpartition(".")[2] == last[0]), None)


def validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    """Settings from flat values.

    Args:
        values: dotted key to value; what is missing is the default.
        origins: where each value comes from, for errors.

    Raises:
        SettingsError: a wrong type or range, or settings that contradict each other.
    """
    try:
        return _model(values)
    except ValidationError as error:
        raise SettingsError(*_describe(error.errors(include_url=False), origins)) from error


def check_values(values: Mapping[str, Any], origin: str) -> None:
    """Check each value alone: a table that is not used now does not say what stands beside it.

    Raises:
        SettingsError: a wrong type or range.
    """
    try:
        _model(values)
    except ValidationError as error:
        if alone := [item for item in error.errors(include_url=False) if len(item["loc"]) > 1]:
            raise SettingsError(*_describe(alone, dict.fromkeys(values, origin))) from error


def _model(values: Mapping[str, Any]) -> Settings:
    # TOML and JSON have no tuples; strict models need them.
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if isinstance(plain.get("compute.compile"), bool):
        plain["compute.compile"] = "on" if plain["compute.compile"] else "off"
    return Settings.model_validate(nest(plain))


TUPLES = {"dataset.value_range": "two numbers in brackets, as [0, 4095]"}
"""What settings must be of which Pydantic says that they must be tuples; TOML has none."""


def _shown(value: Any) -> str:
    """A wrong value, shortened for display."""
    try:
        text = repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # an integer of thousands of digits
        return "a number too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _describe(errors: Iterable[Any], origins: Mapping[str, str]) -> tuple[str, str]:
    problems: dict[str, tuple[Any, list[str]]] = {}
    general: list[str] = []
    for item in errors:
        if item["type"] == "value_error":
            general.append(item["msg"].removeprefix("Value error, "))
            continue
        key = ".".join(str(part) for part in item["loc"][:2])
        key = key if key in FIELDS else str(item["loc"][0])
        reason = TUPLES.get(key, item["msg"].removeprefix("Input should be "))
        value = item["input"]
        problems.setdefault(key, (value, []))[1].append(reason)
    lines = [
        f"`{key}` must be {' or '.join(dict.fromkeys(reasons))}; got {_shown(value)} "
        f"({origins.get(key, 'tesla.toml')})."
        for key, (value, reasons) in problems.items()
    ]
    return " ".join(lines + general), "" if general else "`tesla config --help` explains where settings come from."

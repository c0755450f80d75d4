"""Settings from the command line: `--set key=value` and `--ipc`."""

import json
import tomllib
from collections.abc import Sequence
from typing import Any

from engine.errors import SettingsError
from engine.settings.datasets import dataset_plugins
from engine.settings.facts import FIELDS
from engine.settings.methods import method_plugins
from engine.settings.tables import Flat
from engine.settings.trust import allow, is_import_path
from engine.settings.validation import check_keys


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` to key and value: TOML where it parses, a comma list for list keys, else a plain string.

    Raises:
        SettingsError: not of that form, or an unknown key.
    """
    key, sign, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not sign or not key:
        raise SettingsError(f"--set {text!r} is not key=value.", "Example: --set distill.steps=20")
    check_keys([key], "command line")
    value: Any
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, KeyError, RecursionError):
        value = raw
    if not isinstance(value, str) and FIELDS[key].annotation in (str, str | None):
        value = raw  # a split or a column may be called 2024
    if key in ("evaluate.networks", "augment.ops") and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return key, value


def written(text: str) -> str:
    """A text as `parse_override` reads it: in quotes where it is empty, starts or ends with a space, or has quotes."""
    return (
        text
        if text and text == text.strip() and '"' not in text and "'" not in text
        else json.dumps(text, ensure_ascii=False)
    )


def command_layer(overrides: Sequence[str], ipc: int | None) -> Flat:
    """The settings that a command line names, flat.

    Raises:
        SettingsError: an override that is wrong, or `--ipc` and distill.ipc contradict each other.
    """
    layer = dict(parse_override(text) for text in overrides)
    _consent(layer)
    if ipc is not None:
        if layer.get("distill.ipc", ipc) != ipc:
            raise SettingsError(
                f"--ipc {ipc} contradicts --set distill.ipc={layer['distill.ipc']}.", "Use only one of the two."
            )
        layer["distill.ipc"] = ipc
    return layer


def code_named(flat: Flat) -> list[str]:
    """Import paths of the code that settings name: networks of the user's own, a plugin's method and dataset."""
    networks = [flat.get("network.name"), *(flat.get("evaluate.networks") or ())]
    found = [name for name in networks if isinstance(name, str) and is_import_path(name)]
    for plugins, name in (
        (method_plugins(), flat.get("distill.method")),
        (dataset_plugins(), flat.get("dataset.name")),
    ):
        if isinstance(name, str) and name in plugins:
            found.append(plugins[name].target)
    return list(dict.fromkeys(found))


def _consent(layer: Flat) -> None:
    """Allow the import of code that the command line names; code that only a file names needs `tesla trust`."""
    for name in code_named(layer):
        allow(name)

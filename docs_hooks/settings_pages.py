"""Settings and presets as pages, generated from the schema and the preset tables."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

from engine.methods.registry import METHODS
from engine.settings import Settings, preset_names, resolve_settings
from engine.settings.facts import AFFECTS, change_words, is_read, sections
from engine.settings.presets import preset_rows
from engine.settings.tables import flatten

INTRO = """\
# Settings

Every setting, generated from `engine/settings/schema.py`. The names are the same in `tesla.toml`, on the command line
(`--set distill.steps=30`), in Python (`settings.distill.steps`) and on the screens.

Later layers override earlier ones: defaults, the dataset's [preset](presets.md), the method's own values, `tesla.toml`,
its `[ipc.N]` tables, the command line. `tesla config WORKSPACE --ipc N` prints every value and its origin.

"Changing it" says what another value means once a run exists:

- *any time*: the run takes it from its next start on. Where results depend on it, they are measured again and stand
  beside the old ones; *by rounding*: iterations from then on may differ in the last digits.
- *another run*: the run refuses it, as it would be another experiment. Start one with `--run NAME`. It shares the
  teachers of the workspace unless *other teachers* is said.

Where only some methods (`distill.method`) read a setting, they are named; a run warns of what it does not read.
"""

PRESETS = """\
# Presets

The values set by each dataset's preset, generated from `engine/settings/presets.toml`, which also names the source of
every row. `distill.lr_images` is for the gradient of the whole loss. TESLA's published rates are for half of it, so
they appear here halved. An IPC between two rows uses the row of the smaller one.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages."""
    files.append(File.generated(config, "reference/settings.md", content=settings_page()))
    files.append(File.generated(config, "reference/presets.md", content=presets_page()))
    return files


def settings_page() -> str:
    """The page of all settings."""
    schema = Settings.model_json_schema()
    whole = {key: schema["properties"][key] for key in ("seed", "profile")}
    lines = [INTRO, "## seed and profile", "", *_table(whole)]
    for section, model in sections():
        words = (model.__doc__ or "").strip()
        properties = {f"{section}.{key}": value for key, value in model.model_json_schema()["properties"].items()}
        lines += ["", f"## {section}", "", words, "", *_table(properties)]
    return "\n".join(lines) + "\n"


def _table(properties: dict[str, Any]) -> list[str]:
    rows = ["| setting | values | default | changing it | meaning |", "|---|---|---|---|---|"]
    for key, value in properties.items():
        meaning = " ".join(value.get("description", "").split()).replace("|", "\\|")
        cells = f"`{key}`", _values(value), _plain(value.get("default")), change_words(key), meaning + _readers(key)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _readers(key: str) -> str:
    """Which methods read a setting, as a sentence; empty if all do."""
    if not AFFECTS[key].by_method:
        return ""
    return f" Read by {', '.join(method.name for method in METHODS.values() if is_read(key, method.reads))}."


def _values(value: dict[str, Any]) -> str:
    """What is allowed, as text, from the JSON schema."""
    if "anyOf" in value:
        return " or ".join(_values(part) for part in value["anyOf"] if part.get("type") != "null")
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {_values(value['items'])}" if "items" in value else "list"
    names = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    words = names.get(value.get("type", ""), str(value.get("type", "")))
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [
        f"{sign} {value[name]:g}" if value[name] < 2**62 else f"{sign} 2^{value[name].bit_length() - 1}"
        for name, sign in limits.items()
        if name in value
    ]
    return f"{words} {', '.join(bounds)}".strip()


def _plain(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"`{part}`" for part in value) or "none"
    return f"`{value}`"


def presets_page() -> str:
    """The page of all presets: what differs from the defaults, by dataset and published IPC."""
    defaults = flatten(Settings().model_dump(mode="json"))
    lines = [PRESETS]
    for name in preset_names():
        rows = preset_rows(name) or [None]
        path = ["dataset.path=/"] if name == "folder" else []
        columns = {ipc: resolve_settings(overrides=[f"dataset.name={name}", *path], ipc=ipc) for ipc in rows}
        keys = [
            key
            for key in defaults
            if any(effective.origins[key].startswith("preset") for effective in columns.values())
        ]
        heads = ["any IPC" if ipc is None else f"IPC {ipc}" for ipc in rows]
        lines += ["", f"## {name}", "", f"| setting | {' | '.join(heads)} |", "|---" * (len(rows) + 1) + "|"]
        for key in keys:
            values = [_plain(effective.flat()[key]) for effective in columns.values()]
            lines.append(f"| `{key}` | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"

"""Effective settings, with provenance:

    defaults <- preset(dataset, ipc) <- imported teachers <- method(ipc) <- tesla.toml <- its [ipc.N] <- command line
    <- what a method fixes

Layers are flat dictionaries from dotted key to value; the last one that names a key wins, and is remembered as its
origin. Validation happens once, on the result, and its errors name key, value, origin and way out.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from engine.errors import CorruptFileError, SettingsError
from engine.settings.datasets import dataset_plugins, preset_tables
from engine.settings.methods import check_method, fixed_table, method_plugins, published_tables
from engine.settings.schema import Settings
from engine.settings.trust import allow, is_import_path
from engine.storage.untrusted import read_bounded
from engine.storage.versions import check_format

Flat = dict[str, Any]

SEAL = b"# sha256 of the lines above: "
"""Before the checksum at the end of frozen settings. Files of former versions have none."""

MOST_TOML = 2**18
"""Bytes of a settings file; the commented template has 12,000."""
DEEPEST = 8
"""Tables in tables that are looked into; settings are three deep."""
MOST_DOTS = 100
"""Dots in a line that is no comment. Python's parser takes time with the square of a dotted key's parts: 18 s
for 40,000 of them."""
LONGEST = 60
"""Characters of a wrong key or value that an error repeats."""

FORMAT = 1
"""Version of tesla.toml and settings.toml, their optional key `format`: raised when a key is renamed or changes its
meaning, not when one is added."""


@dataclass(frozen=True)
class EffectiveSettings:
    """Validated settings and, for every key, the name of the layer its value comes from."""

    settings: Settings
    origins: Mapping[str, str]

    def flat(self) -> Flat:
        """Dotted key to plain value (lists for tuples), every key of the schema."""
        return flatten(self.settings.model_dump(mode="json"))


@cache
def known_keys() -> tuple[str, ...]:
    """Every dotted key of the schema, in its order."""
    keys: list[str] = []
    for section, field in Settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys.extend(f"{section}.{name}" for name in inner.model_fields)
        else:
            keys.append(section)
    return tuple(keys)


def preset_names() -> tuple[str, ...]:
    """Datasets that have a preset."""
    return tuple(preset_tables())


def preset_values(name: str) -> Flat:
    """What a preset sets for any IPC, flat, but for the dataset itself.

    Raises:
        SettingsError: there is no such preset.
    """
    if name not in preset_tables():
        raise SettingsError(f"There is no preset {name!r}.", f"Presets: {', '.join(preset_names())}.")
    table = {key: part for key, part in preset_tables()[name].items() if key not in ("ipc", "dataset")}
    return flatten(table)


def flatten(nested: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Flat:
    """Nested tables to dotted keys.

    Raises:
        SettingsError: nested absurdly deep.
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


def resolve_settings(
    toml: Path | None = None,
    *,
    ipc: int | None = None,
    overrides: Sequence[str] = (),
    frozen_overrides: Mapping[str, Any] | None = None,
    settled: Mapping[str, Any] | None = None,
    buffer_layer: Callable[[str], Flat] | None = None,
) -> EffectiveSettings:
    """Read and merge all layers.

    Args:
        toml: the workspace's tesla.toml, if any.
        ipc: images per class asked for on the command line.
        overrides: `key=value` texts of the command line.
        frozen_overrides: dotted keys that an earlier command line set for this run; below this command line.
        settled: what this run settled when it began, of what can be left open.
        buffer_layer: what an imported teacher buffer of that name says of itself; above the presets, below tesla.toml.

    Raises:
        SettingsError: not TOML, an unknown key (with the nearest known one), a wrong type or range, or settings that
            contradict each other.
    """
    table = _read_toml(toml) if toml else {}
    if toml:
        check_format(table.pop("format", None), FORMAT, toml)
    by_ipc = table.pop("ipc", {})
    if not isinstance(by_ipc, dict) or not all(isinstance(part, dict) for part in by_ipc.values()):
        raise SettingsError(
            f"`ipc` in {toml} must be a group of tables.",
            "Write [ipc.10] and put settings for 10 images per class under it.",
        )
    where = toml.name if toml else "tesla.toml"
    from_file = flatten(table)
    command = dict(parse_override(text) for text in overrides)
    _consent(command)
    if ipc is not None:
        if command.get("distill.ipc", ipc) != ipc:
            raise SettingsError(
                f"--ipc {ipc} contradicts --set distill.ipc={command['distill.ipc']}.", "Give one of the two."
            )
        command["distill.ipc"] = ipc
    earlier = dict(frozen_overrides or {})

    chosen = {**from_file, **earlier, **command}
    wanted_ipc = chosen.get("distill.ipc", 1)
    presets = _preset_layers(chosen.get("dataset.name", "digits"), wanted_ipc)
    if chosen.get("network.name", "convnet") != "convnet":
        # Presets size the ConvNet; another network has its own idea of width and depth.
        presets = [(name, {k: v for k, v in layer.items() if not k.startswith("network.")}) for name, layer in presets]
    buffer = chosen.get("teachers.buffer", by_ipc.get(str(wanted_ipc), {}).get("teachers", {}).get("buffer"))
    if buffer_layer is not None and isinstance(buffer, str):
        presets.append((f"buffer {buffer}", buffer_layer(buffer)))
    from_row = flatten(by_ipc.get(str(wanted_ipc), {}))
    method = {**from_file, **from_row, **earlier, **command}.get("distill.method", "tesla")
    if isinstance(method, str):
        check_method(method)
    published = published_tables(method, chosen.get("dataset.name", "digits"), wanted_ipc)
    fixed = flatten(fixed_table(method)[1])
    for key in fixed.keys() & command.keys():
        if command[key] != fixed[key]:
            raise SettingsError(
                f"distill.method = {method} has {key} = {fixed[key]}; the command line says {command[key]}.",
                "Leave one of the two out: what belongs to a method cannot be set beside it.",
            )
    layers: list[tuple[str, Flat]] = [
        *presets,
        *((name, flatten(part)) for name, part in published),
        (where, from_file),
        (f"{where} [ipc.{wanted_ipc}]", from_row),
        ("command line", earlier),
        ("command line", command),
        (fixed_table(method)[0], fixed),
    ]
    for name, part in by_ipc.items():  # a typo in a table that is not in use now is a typo all the same
        _check_keys(flatten(part), f"{where} [ipc.{name}]")
    values: Flat = {}
    origins = dict.fromkeys(known_keys(), "default")
    for origin, layer in layers:
        _check_keys(layer, origin)
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    _settle(values, origins, settled or {})
    return EffectiveSettings(_validated(values, origins), origins)


SETTLED = "distill.iterations"
"""Origin of a value that is made of the iterations a run has when it begins, and stays."""


def _settle(values: Flat, origins: dict[str, str], settled: Mapping[str, Any]) -> None:
    """The end of a curriculum that nobody set: what the run has settled, else its iterations.

    What an iteration draws depends on it, so it must not move when iterations are raised later.
    """
    key = "distill.expansion_end"
    if values.get("distill.current_max_start_epoch", "max") == "max" or values.get(key) is not None:
        return
    iterations = values.get("distill.iterations", Settings().distill.iterations)
    if key in settled or isinstance(iterations, int):
        values[key] = settled[key] if key in settled else max(1, iterations)
        origins[key] = SETTLED


def frozen_settings(path: Path) -> EffectiveSettings:
    """The settings a run was started with, from its settings.toml.

    Raises:
        SettingsError: the file is damaged.
        OSError: it cannot be read.
        NewerFormatError: a newer version wrote it.
    """
    try:
        text = read_bounded(path, MOST_TOML)
    except CorruptFileError as error:
        raise SettingsError(error.message, error.hint) from error
    table = _read_toml(path)
    check_format(table.pop("format", None), FORMAT, path)
    body, mark, seal = text.rpartition(SEAL)
    if mark and hashlib.sha256(body).hexdigest() != seal.strip().decode(errors="replace"):
        raise SettingsError(
            f"{path} was altered since the run froze its settings: it does not match its checksum.",
            "Edit tesla.toml instead; `tesla doctor WORKSPACE --repair` restores this file from the journal.",
        )
    origins = table.pop("provenance", {})
    if not isinstance(origins, dict) or not all(isinstance(origin, str) for origin in origins.values()):
        raise SettingsError(f"`provenance` in {path} must name where each value comes from.", "Remove that table.")
    values = flatten(table)
    if not values or not isinstance(origins, dict) or not set(values) <= set(origins):  # every value has its origin
        raise SettingsError(f"{path} is cut short.", "`tesla doctor WORKSPACE --repair` restores it from the journal.")
    _check_keys(values, str(path))
    return EffectiveSettings(_validated(values, origins), {key: origins.get(key, "default") for key in known_keys()})


def settings_to_toml(effective: EffectiveSettings) -> str:
    """The effective settings as TOML, provenance included; `frozen_settings` reads it back."""
    values = {key: value for key, value in effective.flat().items() if value is not None}
    head = "# The effective settings of this run, frozen when it started. Edit ../../tesla.toml instead.\n\n"
    body = head + tomli_w.dumps({"format": FORMAT, **nest(values), "provenance": dict(effective.origins)})
    return body + SEAL.decode() + hashlib.sha256(body.encode()).hexdigest() + "\n"


def recovered_settings(values: Flat, toml: Path | None) -> EffectiveSettings:
    """The settings of a run from the flat values in its journal, which does not tell where they come from.

    What the workspace does not say by itself counts as set on the command line, so that a later command keeps it.

    Raises:
        SettingsError: not the settings of this version.
    """
    _check_keys(values, "journal")
    settings = _validated(values, dict.fromkeys(values, "journal"))
    effective = EffectiveSettings(settings, dict.fromkeys(known_keys(), "command line"))
    try:
        base = resolve_settings(toml, ipc=settings.distill.ipc)
    except SettingsError:
        return effective
    said, flat = base.flat(), effective.flat()
    origins = {key: base.origins[key] if said[key] == flat[key] else "command line" for key in known_keys()}
    return EffectiveSettings(settings, origins)


def _consent(command: Flat) -> None:
    """What is asked for in so many words may be imported; what only a file names needs `tesla trust`."""
    named = [command.get("network.name"), *(command.get("evaluate.networks") or ())]
    for name in named:
        if isinstance(name, str) and is_import_path(name):
            allow(name)
    for plugins, name in (
        (method_plugins(), command.get("distill.method")),
        (dataset_plugins(), command.get("dataset.name")),
    ):
        if isinstance(name, str) and name in plugins:
            allow(plugins[name].target)


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` to key and value: TOML where it parses, a comma list for list keys, else a plain string."""
    key, sign, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not sign or not key:
        raise SettingsError(f"--set {text!r} is not key=value.", "Example: --set distill.steps=20")
    _check_keys({key: raw}, "command line")
    value: Any
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, KeyError, RecursionError):
        value = raw
    if key in ("evaluate.networks", "augment.ops") and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return key, value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_bounded(path, MOST_TOML).decode()
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > MOST_DOTS and not line.lstrip().startswith("#"):
                raise SettingsError(f"Line {number} of {path} is nested too deeply.", "Settings are three names deep.")
        return tomllib.loads(text)
    except CorruptFileError as error:
        raise SettingsError(error.message, error.hint) from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise SettingsError(f"{path} is not valid TOML: {error}.", "Mend that line; strings need quotes.") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply.", "Settings are at most two tables deep.") from error


def _preset_layers(dataset: Any, ipc: Any) -> list[tuple[str, Flat]]:
    presets = preset_tables()
    name = dataset if isinstance(dataset, str) and dataset in presets else "folder"
    table = dict(presets[name])
    by_ipc = {int(key): part for key, part in table.pop("ipc", {}).items()}
    layers = [(f"preset {name}", flatten(table))]
    if by_ipc and isinstance(ipc, int):
        # Between two published rows the smaller IPC's is the safer start; the origin says which row it is.
        row = max((known for known in by_ipc if known <= ipc), default=min(by_ipc))
        layers.append((f"preset {name}, IPC {row}", flatten(by_ipc[row])))
    return layers


def _check_keys(layer: Flat, origin: str) -> None:
    for key in layer:
        if key in known_keys():
            continue
        if any(known.startswith(f"{key}.") for known in known_keys()):
            raise SettingsError(
                f"`{key}` ({origin}) is a group, not a setting.", f"See `tesla config` for what is in {key}."
            )
        key = key if len(key) <= LONGEST else f"{key[:LONGEST]}..."
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        if not near:
            last = key.rpartition(".")[2]
            near = difflib.get_close_matches(last, [known.rpartition(".")[2] for known in known_keys()], n=1)
            near = [known for known in known_keys() if near and known.rpartition(".")[2] == near[0]][:1]
        hint = f"Did you mean `{near[0]}`?" if near else "`tesla config` lists every key."
        raise SettingsError(f"There is no setting `{key}` ({origin}).", hint)


def _validated(values: Flat, origins: Mapping[str, str]) -> Settings:
    # TOML and JSON have no tuples; strict models want them.
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if isinstance(plain.get("compute.compile"), bool):
        plain["compute.compile"] = "on" if plain["compute.compile"] else "off"
    try:
        return Settings.model_validate(nest(plain))
    except ValidationError as error:
        raise SettingsError(*_describe(error, origins)) from error


def _shown(value: Any) -> str:
    """A wrong value, as much of it as a person wants to see."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an absurdly large number"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _describe(error: ValidationError, origins: Mapping[str, str]) -> tuple[str, str]:
    problems: dict[str, tuple[Any, list[str]]] = {}
    general: list[str] = []
    for item in error.errors(include_url=False):
        if item["type"] == "value_error":
            general.append(item["msg"].removeprefix("Value error, "))
            continue
        key = ".".join(str(part) for part in item["loc"][:2])
        key = key if key in known_keys() else str(item["loc"][0])
        reason = item["msg"].removeprefix("Input should be ")
        value = item["input"]
        problems.setdefault(key, (value, []))[1].append(reason)
    lines = [
        f"`{key}` must be {' or '.join(dict.fromkeys(reasons))}; got {_shown(value)} "
        f"({origins.get(key, 'tesla.toml')})."
        for key, (value, reasons) in problems.items()
    ]
    return " ".join(lines + general), "" if general else "`tesla config --help` tells where settings come from."

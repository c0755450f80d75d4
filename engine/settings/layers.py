"""Effective settings, with provenance:

    defaults <- preset(dataset, its size, ipc) <- imported teachers <- method(ipc) <- tesla.toml <- its [ipc.N]
    <- command line <- what a method fixes

Layers are flat dictionaries from dotted key to value; the last one that names a key wins, and is remembered as its
origin. Validation happens once, on the result, and its errors name key, value, origin, and what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import SettingsError, UsageError
from engine.settings.facts import FIELDS
from engine.settings.methods import check_method, fixed_table, method_traits, published_tables
from engine.settings.overrides import command_layer
from engine.settings.presets import preset_layers
from engine.settings.settings import Settings
from engine.settings.sized import Counted
from engine.settings.tables import FORMAT, Flat, flatten, read_toml
from engine.settings.validation import check_keys, validated
from engine.storage.versions import check_format

Layer = tuple[str, Flat]
"""Origin and values."""

BufferLayer = Callable[[str], Flat]

SETTLED = "distill.iterations"
"""Origin of a value derived from the iterations a run has when it starts, and then fixed."""


@dataclass(frozen=True)
class EffectiveSettings:
    """Validated settings and, for every key, the name of the layer its value comes from."""

    settings: Settings
    origins: Mapping[str, str]

    def flat(self) -> Flat:
        """Dotted key to plain value (lists for tuples), every key of the schema."""
        return flatten(self.settings.model_dump(mode="json"))


def resolve_settings(
    toml: Path | None = None,
    *,
    ipc: int | None = None,
    overrides: Sequence[str] = (),
    frozen_overrides: Mapping[str, Any] | None = None,
    settled: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    buffer_layer: BufferLayer | None = None,
    counted: Counted | None = None,
) -> EffectiveSettings:
    """Read and merge all layers.

    Args:
        toml: the workspace's tesla.toml, if any.
        ipc: images per class from the command line.
        overrides: `key=value` texts of the command line.
        frozen_overrides: dotted keys that an earlier command line set for this run; below this command line.
        settled: values that this run fixed at its start, of those that can be left open.
        defaults: values that this run has from the defaults, of the version that started it; below everything.
        buffer_layer: what an imported teacher buffer of that name declares; above the presets, below tesla.toml.
        counted: the size of the dataset of a workspace that has no tesla.toml yet.

    Raises:
        SettingsError: not TOML, an unknown key (with the nearest known one), a wrong type or range, or settings that
            contradict each other.
    """
    file = _read_file(toml)
    command = command_layer(overrides, ipc)
    earlier = dict(frozen_overrides or {})
    chosen = {**file.values, **earlier, **command}  # without the row, which the IPC decides
    wanted_ipc = chosen.get("distill.ipc", 1)
    row = file.rows.get(str(wanted_ipc), {})
    dataset = chosen.get("dataset.name", "digits")
    method = {**file.values, **row, **earlier, **command}.get("distill.method", "tesla")
    if isinstance(method, str):
        check_method(method)
    layers: list[Layer] = [
        ("default", dict(defaults or {})),
        *_preset_layers(dataset, wanted_ipc, chosen.get("network.name", "convnet"), counted or file.counted),
        *_buffer_layers({**row, **chosen}.get("teachers.buffer"), buffer_layer, method),
        *((origin, flatten(table)) for origin, table in published_tables(method, dataset, wanted_ipc)),
        (file.name, file.values),
        (f"{file.name} [ipc.{wanted_ipc}]", row),
        ("command line", earlier),
        ("command line", command),
        _fixed_layer(method, command),
    ]
    file.check_rows()
    values, origins = _merged(layers)
    _settle(values, origins, settled or {})
    return EffectiveSettings(validated(values, origins), origins)


@dataclass(frozen=True)
class _File:
    """A tesla.toml."""

    name: str
    values: Flat
    """What it sets for every IPC."""
    rows: Mapping[str, Flat]
    """Its `[ipc.N]` tables, by N as it is written."""
    counted: Counted | None = None
    """Its table `counted`."""

    def check_rows(self) -> None:
        """Check the keys of every row: a typo in a table that is not used now is still a typo."""
        for ipc, row in self.rows.items():
            check_keys(row, f"{self.name} [ipc.{ipc}]")


def _read_file(toml: Path | None) -> _File:
    if toml is None:
        return _File("tesla.toml", {}, {})
    table = read_toml(toml)
    check_format(table.pop("format", None), FORMAT, toml)
    counted = Counted.from_table(table.pop("counted", None), toml)
    rows = table.pop("ipc", {})
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise SettingsError(
            f"`ipc` in {toml} must be a group of tables.",
            "Write [ipc.10] and put settings for 10 images per class under it.",
        )
    return _File(toml.name, flatten(table), {ipc: flatten(row) for ipc, row in rows.items()}, counted)


def _preset_layers(dataset: Any, ipc: Any, network: Any, counted: Counted | None) -> list[Layer]:
    """The dataset's preset. It sizes the ConvNet; another network has its own default width and depth."""
    layers = preset_layers(dataset, ipc, counted)
    if network == "convnet":
        return layers
    return [(name, {k: v for k, v in layer.items() if not k.startswith("network.")}) for name, layer in layers]


def _buffer_layers(buffer: Any, buffer_layer: BufferLayer | None, method: Any) -> list[Layer]:
    """What an imported teacher buffer declares. A lost one is an error only for methods that need teachers."""
    if buffer_layer is None or not isinstance(buffer, str):
        return []
    try:
        return [(f"buffer {buffer}", buffer_layer(buffer))]
    except UsageError:
        if isinstance(method, str) and not method_traits(method).teachers:
            return []
        raise


def _fixed_layer(method: Any, command: Flat) -> Layer:
    """What the method fixes.

    Raises:
        SettingsError: the command line sets another value.
    """
    origin, table = fixed_table(method)
    fixed = flatten(table)
    for key in fixed.keys() & command.keys():
        if command[key] != fixed[key]:
            raise SettingsError(
                f"distill.method = {method} fixes {key} = {fixed[key]}; the command line sets {command[key]}.",
                "Remove one of the two: a setting that a method fixes cannot be changed.",
            )
    return origin, fixed


def _merged(layers: Sequence[Layer]) -> tuple[Flat, dict[str, str]]:
    """The value of each key, from the last layer that names it, and that layer's name."""
    values: Flat = {}
    origins = dict.fromkeys(FIELDS, "default")
    for origin, layer in layers:
        check_keys(layer, origin)
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    return values, origins


def _settle(values: Flat, origins: dict[str, str], settled: Mapping[str, Any]) -> None:
    """The end of a curriculum if it is not set: what the run has fixed, else its iterations.

    What an iteration draws depends on it, so it must not move when iterations are raised later.
    """
    key = "distill.expansion_end"
    if values.get("distill.current_max_start_epoch", "max") == "max" or values.get(key) is not None:
        return
    iterations = values.get("distill.iterations", Settings().distill.iterations)
    if key in settled or isinstance(iterations, int):
        values[key] = settled[key] if key in settled else max(1, iterations)
        origins[key] = SETTLED

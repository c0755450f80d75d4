"""Effective settings, with provenance:

    defaults <- preset(dataset, its size, ipc) <- imported teachers <- method(ipc) <- tesla.toml <- its [ipc.N]
    <- command line <- what a method fixes

With a profile, which is whole, its row stands instead of the preset and the method's table.

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
from engine.settings.presets import preset_layers, whole_where_needed
from engine.settings.profiles import NONE, ProfileRow, profile_row, profile_rows
from engine.settings.settings import Settings
from engine.settings.sized import Counted
from engine.settings.tables import FORMAT, Flat, flatten, read_toml
from engine.settings.validation import check_keys, check_values, validated
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
    buffer_layer: BufferLayer | None = None,
    counted: Counted | None = None,
    started: "EffectiveSettings | None" = None,
) -> EffectiveSettings:
    """Read and merge all layers.

    Args:
        toml: the workspace's tesla.toml, if any.
        ipc: images per class from the command line.
        overrides: `key=value` texts of the command line.
        frozen_overrides: dotted keys that an earlier command line set for this run; below this command line.
        settled: values that this run fixed at its start, of those that can be left open.
        buffer_layer: what an imported teacher buffer of that name declares; above the presets, below tesla.toml.
        counted: the size of the dataset of a workspace that has no tesla.toml yet.
        started: what an existing run was started with: it keeps the defaults and presets of then.

    Raises:
        SettingsError: not TOML, an unknown key (with the nearest known one), a wrong type or range, or settings that
            contradict each other.
    """
    file = _read_file(toml)
    command = command_layer(overrides, ipc)
    earlier = dict(frozen_overrides or {})
    chosen = {**file.values, **earlier, **command}  # without the row, which the IPC decides
    dataset, network = chosen.get("dataset.name", "digits"), chosen.get("network.name", "convnet")
    wanted_ipc = chosen["distill.ipc"] if "distill.ipc" in chosen else _first_ipc(chosen.get("profile"), dataset)
    row = file.rows.get(str(wanted_ipc), {})
    said = {**file.values, **row, **earlier, **command}
    profile = _profile_row(said.get("profile"), dataset, wanted_ipc)
    method = said.get("distill.method", profile.printed["distill.method"] if profile else "tesla")
    if isinstance(method, str):
        check_method(method)
    published = () if profile else published_tables(method, dataset, wanted_ipc)
    presets = profile.layers() if profile else preset_layers(dataset, wanted_ipc, counted or file.counted)
    layers: list[Layer] = [
        *(presets if network == "convnet" else _without_sizes(presets)),
        *_buffer_layers({**row, **chosen}.get("teachers.buffer"), buffer_layer, method),
        *((origin, flatten(table)) for origin, table in published),
        *_layers_of_then(started, file.name),
        (file.name, file.values),
        (f"{file.name} [ipc.{wanted_ipc}]", row),
        ("command line", earlier),
        ("command line", command),
        _fixed_layer(method, command),
    ]
    file.check_rows()
    values, origins = _merged(layers)
    if values.get("profile") == NONE:
        values["profile"] = None  # the same run as one that names none
    if started is None:
        whole_where_needed(values, origins)
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
        """Check every row: a typo in a table that is not used now is still a typo."""
        for ipc, row in self.rows.items():
            check_keys(row, f"{self.name} [ipc.{ipc}]")
            check_values(row, f"{self.name} [ipc.{ipc}]")


def _read_file(toml: Path | None) -> _File:
    if toml is None:
        return _File("tesla.toml", {}, {})
    try:
        table = read_toml(toml)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no {toml}.", "The workspace was deleted or moved, or its disk is away: check its folder."
        ) from error
    check_format(table.pop("format", None), FORMAT, toml)
    counted = Counted.from_table(table.pop("counted", None), toml)
    rows = table.pop("ipc", {})
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise SettingsError(
            f"`ipc` in {toml} must be a group of tables.",
            "Write [ipc.10] and put settings for 10 images per class under it.",
        )
    return _File(toml.name, flatten(table), {ipc: flatten(row) for ipc, row in rows.items()}, counted)


def _first_ipc(profile: Any, dataset: Any) -> int:
    """The IPC where none is set: 1, or the smallest that the profile has."""
    counts = [row.ipc for row in profile_rows(profile) if row.dataset == dataset] if _is_profile(profile) else []
    return 1 if not counts or 1 in counts else counts[0]


def _is_profile(profile: Any) -> bool:
    """Whether a profile is asked for. What is no name is left to validation."""
    return isinstance(profile, str) and profile != NONE


def _profile_row(profile: Any, dataset: Any, ipc: Any) -> ProfileRow | None:
    """The row of the profile that is asked for; None without one."""
    return profile_row(profile, dataset, ipc) if _is_profile(profile) else None


def _without_sizes(layers: Sequence[Layer]) -> list[Layer]:
    """Layers that size the ConvNet, for another network: it has its own default width and depth."""
    return [(name, {k: v for k, v in layer.items() if not k.startswith("network.")}) for name, layer in layers]


def _layers_of_then(started: EffectiveSettings | None, file: str) -> list[Layer]:
    """What an existing run has from defaults, presets, its method and its profile: another version of tesla may have
    others, and the run must resume.

    Args:
        started: what the run was started with.
        file: the name of the settings file, whose values may have changed since.
    """
    if started is None:
        return []
    said = (file, "command line", SETTLED)
    flat, found = started.flat(), dict[str, Flat]()
    for key, origin in started.origins.items():
        if not origin.startswith(said):
            found.setdefault(origin, {})[key] = flat[key]
    return list(found.items())


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
    """The ends of a curriculum and of a falling learning rate if they are not set: what the run has fixed, else its
    iterations.

    What an iteration does depends on them, so they must not move when iterations are raised later.
    """
    open_ends = {
        "distill.expansion_end": values.get("distill.current_max_start_epoch", "max") != "max",
        "peers.decay_end": values.get("peers.lr_end", 1.0) != 1.0,
    }
    iterations = values.get("distill.iterations", Settings().distill.iterations)
    for key, needed in open_ends.items():
        if needed and values.get(key) is None and (key in settled or isinstance(iterations, int)):
            values[key] = settled[key] if key in settled else max(1, iterations)
            origins[key] = SETTLED

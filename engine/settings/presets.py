"""The presets of datasets: published rows by IPC, from presets.toml."""

from dataclasses import replace
from typing import Any

from engine.errors import SettingsError
from engine.settings.datasets import preset_tables
from engine.settings.methods import method_traits, own_methods
from engine.settings.sized import TRAINED, Counted, can_hold, sized_preset
from engine.settings.tables import Flat, flatten


def preset_names() -> tuple[str, ...]:
    """Datasets that have a preset."""
    return tuple(preset_tables())


def preset_rows(name: str) -> list[int]:
    """The IPCs that a preset has a published row for, ascending."""
    return sorted(int(ipc) for ipc in preset_tables()[name].get("ipc", {}))


def preset_values(name: str) -> Flat:
    """What a preset sets for any IPC, flat, but for the dataset itself.

    Raises:
        SettingsError: there is no such preset.
    """
    if name not in preset_tables():
        raise SettingsError(f"There is no preset {name!r}.", f"Presets: {', '.join(preset_names())}.")
    table = {key: part for key, part in preset_tables()[name].items() if key not in ("ipc", "dataset")}
    return flatten(table)


def preset_resolution(name: str) -> int | None:
    """The side of the images that a dataset's preset sets, pixels; None for a dataset without one."""
    side = preset_tables().get(name, {}).get("dataset", {}).get("resolution")
    return side if isinstance(side, int) else None


def preset_layers(dataset: Any, ipc: Any, counted: Counted | None = None) -> list[tuple[str, Flat]]:
    """Origins and values of a dataset's preset, the more general first.

    For a dataset without one: that of `folder`, and the sizes that follow from `counted` where it is known.
    """
    presets = preset_tables()
    name = dataset if isinstance(dataset, str) and dataset in presets else "folder"
    table = dict(presets[name])
    by_ipc = {int(key): part for key, part in table.pop("ipc", {}).items()}
    layers = [(f"preset {name}", flatten(table))]
    if by_ipc and isinstance(ipc, int):
        # Between two published rows the smaller IPC's is the safer start; the origin says which row it is.
        row = max((known for known in by_ipc if known <= ipc), default=min(by_ipc))
        layers.append((f"preset {name}, IPC {row}", flatten(by_ipc[row])))
    if name == "folder" and counted is not None:
        layers.append((counted.origin, sized_preset(counted, ipc)))
    return layers


def whole_where_needed(values: Flat, origins: dict[str, str]) -> None:
    """Take back a preset's `distill.formation` where images must be stored whole; what a person sets is refused there.

    That is: for methods but `random` and our own with teachers, for labels that a teacher gives, for imported sets,
    with another decoder, where it does not divide `dataset.resolution`, and where that or `dataset.holdout` leaves
    fewer pixels or images of a class than the preset of a size counts on.

    Args:
        values: the merged settings, flat; not validated yet.
        origins: the layer of each value.
    """
    key = "distill.formation"
    factor, method = values.get(key, 1), values.get("distill.method", "tesla")
    if factor == 1 or not origins[key].startswith("preset ") or not isinstance(method, str):
        return
    counted, side, holdout = Counted.from_origin(origins[key]), values.get("dataset.resolution"), _holdout(values)
    if counted is not None:
        counted = replace(counted, side=side if isinstance(side, int) else counted.side)
    fits = (
        (method == "random" or (method in own_methods() and method_traits(method).teachers))
        and values.get("labels.kind", "hard") in ("hard", "learned")
        and values.get("distill.decoder", "formation") == "formation"
        and not (isinstance(side, int) and side % factor)
        and (counted is None or can_hold(factor, counted, values.get("distill.ipc", 1), holdout))
    )
    if not fits:
        del values[key]
        origins[key] = "default"


def _holdout(values: Flat) -> float:
    """The share that is held out; the default where it is none, which validation will say."""
    held = values.get("dataset.holdout")
    return float(held) if isinstance(held, int | float) and 0 <= held < 1 else 1 - TRAINED

"""Every dataset by name: where it comes from, how large it is, the code that finds it, and its preset.

The tables are data (presets.toml, and those of plugins), so that help, presets, plans and the documentation know all
datasets without importing one. `engine.data.registry` finds the images.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from engine.errors import SettingsError
from engine.settings.plugins import Plugin, usable
from engine.storage.untrusted import typed

UNKNOWN = "unknown"
"""A licence that is not known, as the hub spells it."""


@dataclass(frozen=True)
class DatasetFacts:
    """The table `about` of a dataset."""

    title: str
    """A title for people."""
    origin: str = ""
    """Where its images come from, for people."""
    rates: str = ""
    """Where the rates of its preset come from, for people."""
    code: str = ""
    """`package.module:function` that finds local files; see `engine.data.registry.Find`. Empty for hub datasets."""
    hub: str = ""
    """Id of the Hugging Face hub, `owner/name`."""
    config: str = ""
    """Configuration of the hub's dataset; empty for its only one, or its default."""
    test_split: str = ""
    """Split of the hub's dataset to test on; empty for the first of the usual names."""
    label_column: str = ""
    """Column of the hub's dataset with the classes; empty for the first of that type."""
    offline: str = ""
    """What to do without a network, in one sentence."""
    license: str = UNKNOWN
    """Its id on the Hugging Face hub, such as `cc-by-4.0`."""
    classes: int = 0
    channels: int = 0
    resolution: int = 0
    """Side of the images as published, pixels."""
    train: int = 0
    """Training images as published; 0 where sizes are known only from the files."""
    test: int = 0


@cache
def _own() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("engine.settings").joinpath("presets.toml").read_text())


def dataset_plugins() -> dict[str, Plugin]:
    """Datasets of other packages, by name."""
    return usable("dataset", own_datasets())


def own_datasets() -> tuple[str, ...]:
    """The built-in datasets, `folder` last."""
    return tuple(_own())


def dataset_names() -> tuple[str, ...]:
    """Every dataset that has a name, `folder` last."""
    *named, folder = own_datasets()
    return (*named, *dataset_plugins(), folder)


def dataset_facts(name: str) -> DatasetFacts | None:
    """What is known about a dataset by its name or its hub id; None for any other.

    Raises:
        SettingsError: a plugin's table is wrong.
    """
    plugin = None if name in _own() else dataset_plugins().get(name)
    if plugin is not None:
        about = {"title": plugin.words, "origin": plugin.words, **plugin.table.get("about", {}), "code": plugin.target}
        try:
            return typed(DatasetFacts, about)
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"The metadata of {plugin.words} is wrong: {error}.", "Report it to its author."
            ) from error
    for own, table in _own().items():
        if name in (own, table["about"].get("hub")):
            return typed(DatasetFacts, table["about"])
    return None


def preset_tables() -> dict[str, Mapping[str, Any]]:
    """Presets by dataset: nested tables of settings, and under `ipc` rows for a number of images per class."""
    tables = {**_own(), **{name: dict(plugin.table) for name, plugin in dataset_plugins().items()}}
    presets = {name: {key: part for key, part in table.items() if key != "about"} for name, table in tables.items()}
    return {name: preset for name, preset in presets.items() if preset}

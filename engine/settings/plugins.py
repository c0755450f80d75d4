"""Methods and datasets of other installed packages, found without running any of their code.

A package declares an entry point in the group `tesla.methods` or `tesla.datasets`: `name = "package.module:object"`.
What must be known before its code runs (titles, what a method needs, published rates, a dataset's sizes) it ships as
data in `tesla-plugin.toml` inside the package, in the tables `[methods.NAME]` and `[datasets.NAME]`, which have the
form of those in methods.toml and presets.toml. The code itself needs consent: `engine.settings.trust.load_plugin`.
"""

import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from engine.errors import CorruptFileError
from engine.storage.untrusted import read_bounded

Kind = Literal["method", "dataset"]
GROUPS: dict[Kind, str] = {"method": "tesla.methods", "dataset": "tesla.datasets"}
FILE = "tesla-plugin.toml"
MOST = 2**18
"""Bytes of a plugin's tables."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Plugin:
    """An entry point."""

    kind: Kind
    name: str
    target: str
    """`package.module:object`."""
    package: str
    """The distribution it belongs to."""
    version: str
    table: Mapping[str, Any] = field(default_factory=dict)
    """What its package declares about it."""
    problem: str = ""
    """Why it cannot be used; empty if it can."""

    @property
    def words(self) -> str:
        """What it is and its package."""
        return f"the {self.kind} {self.name} of the package {self.package} {self.version}"

    def sentence(self, rest: str) -> str:
        """A sentence that starts with it."""
        return f"T{self.words[1:]} {rest}"


@cache
def installed(kind: Kind) -> tuple[Plugin, ...]:
    """Every entry point of a group, usable or not, in the order of their names."""
    found = [_described(kind, point) for point in entry_points(group=GROUPS[kind])]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.package)))


def usable(kind: Kind, taken: Collection[str]) -> dict[str, Plugin]:
    """Plugins by name, without those that are refused (see `refusals`).

    Args:
        kind: method or dataset.
        taken: built-in names, which always take precedence.
    """
    refused = {(plugin.name, plugin.package) for plugin, _ in refusals(kind, taken)}
    return {plugin.name: plugin for plugin in installed(kind) if (plugin.name, plugin.package) not in refused}


def refusals(kind: Kind, taken: Collection[str]) -> list[tuple[Plugin, str]]:
    """Plugins that are not used, each with the reason: damaged, or a name that is taken."""
    found = []
    for plugin in installed(kind):
        others = [other.package for other in installed(kind) if other.name == plugin.name and other is not plugin]
        if plugin.problem:
            found.append((plugin, plugin.problem))
        elif plugin.name in taken:
            found.append((plugin, f"the name {plugin.name} is that of a built-in {kind}"))
        elif others:
            found.append((plugin, f"the package {others[0]} has a {kind} named {plugin.name} too; uninstall one"))
    return found


def is_target(target: str) -> bool:
    """Whether an import path is that of an installed plugin."""
    return any(plugin.target == target for kind in GROUPS for plugin in installed(kind))


def _described(kind: Kind, point: EntryPoint) -> Plugin:
    package, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
    plugin = Plugin(kind, point.name, point.value, package, version)
    if not NAME.fullmatch(point.name):
        return replace(
            plugin, problem="its name may contain only lower-case letters, digits, dots, dashes and underscores"
        )
    if not TARGET.fullmatch(point.value):
        return replace(plugin, problem=f"{point.value!r} is not package.module:object")
    try:
        table = _tables(point.value.partition(":")[0].partition(".")[0]).get(f"{kind}s", {}).get(point.name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{kind}s.{point.name} is not a table")
        if not isinstance(table.get("about", {}), dict):
            raise ValueError(f"{kind}s.{point.name}.about is not a table")
    except (CorruptFileError, OSError, ValueError, AttributeError, RecursionError) as error:
        return replace(plugin, problem=f"{FILE} cannot be read: {error}")
    return replace(plugin, table=table)


def _tables(top: str) -> dict[str, Any]:
    """The tables that an importable package ships, read without importing it."""
    found = PathFinder.find_spec(top, sys.path)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / FILE
        if path.exists():
            return tomllib.loads(read_bounded(path, MOST).decode())
    return {}

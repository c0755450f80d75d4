"""Methods and datasets of other installed packages, found without running any of their code.

A package declares an entry point in the group `tesla.methods` or `tesla.datasets`: `name = "package.module:object"`.
What must be known before its code runs (titles, what a method needs, published rates, a dataset's sizes) it ships as
data in `tesla-plugin.toml` inside the package, in the tables `[methods.NAME]` and `[datasets.NAME]`, which have the
form of those in methods.toml and presets.toml. The code itself needs consent: `engine.settings.trust.load_plugin`.
"""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any, Literal

from engine.errors import CorruptFileError, SettingsError
from engine.settings.tables import LONGEST, read_toml

Kind = Literal["method", "dataset"]
GROUPS: dict[Kind, str] = {"method": "tesla.methods", "dataset": "tesla.datasets"}
FILE = "tesla-plugin.toml"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DAMAGE = (ValueError, TypeError, OSError)
"""What reading the description of a damaged package raises; the library checks nothing."""
COUNT = re.compile(r"[1-9][0-9]{0,8}")
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
    try:
        found = [_described(kind, point) for point in entry_points(group=GROUPS[kind])]
    except DAMAGE:  # the entry points of any package, not only of plugins: the others still count
        found = list(_one_by_one(kind))
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


def _one_by_one(kind: Kind) -> Iterator[Plugin]:
    """The plugins of a group, and one with a problem for every package whose description is damaged."""
    seen = set()
    for package in distributions():
        name = str(package.locate_file(""))
        try:
            name = package.name or name
            if name in seen:
                continue
            seen.add(name)
            yield from [_described(kind, point) for point in package.entry_points.select(group=GROUPS[kind])]
        except DAMAGE as error:
            yield Plugin(kind, "?", "", name, "", problem=f"entry_points.txt cannot be read ({error}); reinstall it")


def _described(kind: Kind, point: EntryPoint) -> Plugin:
    package, version = (point.dist.name or "unknown", point.dist.version or "") if point.dist else ("unknown", "")
    plugin = Plugin(kind, point.name, point.value, package, version)
    if not NAME.fullmatch(point.name):
        return replace(
            plugin, problem="its name may contain only lower-case letters, digits, dots, dashes and underscores"
        )
    if not TARGET.fullmatch(point.value):
        return replace(plugin, problem=f"{point.value!r} is not package.module:object")
    try:
        table = _tables(point.value.partition(":")[0].partition(".")[0]).get(f"{kind}s", {}).get(point.name, {})
        _check_table(f"{kind}s.{point.name}", table, rows_by_dataset=kind == "method")
    except (CorruptFileError, OSError, ValueError, AttributeError, RecursionError) as error:
        return replace(plugin, problem=f"{FILE} cannot be read: {error}")
    except SettingsError as error:
        return replace(plugin, problem=f"{FILE} cannot be read: {error.message.rstrip('.')}")
    return replace(plugin, table=table)


def _check_table(where: str, table: Any, *, rows_by_dataset: bool) -> None:
    """Refuse what does not have the form of methods.toml or presets.toml; whether settings exist is checked later.

    Raises:
        ValueError: a part is no table, or a row is for no number of images.
    """
    parts = {key: table.get(key, {}) for key in ("about", "fixed", "ipc")} if isinstance(table, dict) else {"": table}
    for key, part in parts.items():
        if not isinstance(part, dict):
            raise ValueError(f"{where}{'.' if key else ''}{key} is not a table")
    for ipc, row in parts.get("ipc", {}).items():
        if not COUNT.fullmatch(ipc) or not isinstance(row, dict):
            raise ValueError(f"{where}.ipc.{ipc[:LONGEST]} is not a table for a number of images per class")
    if rows_by_dataset:
        for dataset, own in table.get("dataset", {}).items():
            _check_table(f"{where}.dataset.{dataset[:LONGEST]}", own, rows_by_dataset=False)


def _tables(top: str) -> dict[str, Any]:
    """The tables that an importable package ships, read without importing it."""
    found = PathFinder.find_spec(top, sys.path)
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / FILE
        if path.exists():
            return read_toml(path)
    return {}

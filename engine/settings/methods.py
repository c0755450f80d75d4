"""Every method by name: what it needs, its code, its published rates, and the settings it fixes.

The tables are data (methods.toml, and those of plugins), so that help, validation and screens know all methods without
importing one. `engine.methods.registry` imports them.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from engine.errors import SettingsError
from engine.settings.plugins import Plugin, refusals, usable
from engine.storage.untrusted import typed

Table = Mapping[str, Any]
"""Nested tables of settings."""


@dataclass(frozen=True)
class MethodTraits:
    """What the program knows about a method: the table `about`."""

    title: str
    """A title for people, with its source."""
    code: str = ""
    """`package.module:object`, a `Method`."""
    teachers: bool = False
    """Whether it matches teacher trajectories, which are trained for it."""
    iterates: bool = True
    """Whether it updates its images; otherwise it chooses real ones, once."""
    all_images: bool = False
    """Whether networks are trained on all training images: it makes no small set, and ignores IPC."""
    whole_gradient: bool = False
    """Whether it is defined by the whole gradient, so that `distill.gradient = paper` is not allowed."""


@cache
def own_methods() -> dict[str, Table]:
    """The tables of the built-in methods."""
    return tomllib.loads(files("engine.settings").joinpath("methods.toml").read_text())


def method_plugins() -> dict[str, Plugin]:
    """Methods of other packages, by name."""
    return usable("method", own_methods().keys())


def method_names() -> tuple[str, ...]:
    """Every method that can be used."""
    return (*own_methods(), *method_plugins())


def method_traits(name: str) -> MethodTraits:
    """What is known about a method; only its name if it is not installed (any more)."""
    about = _table(name).get("about")
    plugin = None if name in own_methods() else method_plugins().get(name)
    if plugin is None:
        return MethodTraits(name) if about is None else typed(MethodTraits, dict(about))
    try:
        return typed(MethodTraits, {"title": plugin.words, **(about or {}), "code": plugin.target})
    except (ValueError, TypeError) as error:
        raise SettingsError(f"The metadata of {plugin.words} is wrong: {error}.", "Report it to its author.") from error


def check_method(name: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        SettingsError: there is none of that name, or a plugin's that cannot be used.
    """
    names = method_names()
    if name in names:
        return
    for plugin, reason in refusals("method", own_methods().keys()):
        if plugin.name == name:
            raise SettingsError(plugin.sentence(f"cannot be used: {reason}."), "`tesla doctor` lists all plugins.")
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    raise SettingsError(
        f"There is no distill.method {shown!r}.",
        f"{hint}Methods: {', '.join(names)}. Another may belong to a plugin that is not installed.",
    )


def method_words() -> str:
    """The built-in methods in one sentence, by what they do."""
    traits = {name: method_traits(name) for name in own_methods()}
    groups = (
        ("match teacher trajectories", [n for n, t in traits.items() if t.teachers]),
        ("need no teachers", [n for n, t in traits.items() if t.iterates and not t.teachers]),
        ("choose real images", [n for n, t in traits.items() if not t.iterates and not t.all_images]),
        ("all training images, the upper bound", [n for n, t in traits.items() if t.all_images]),
    )
    listed = "; ".join(f"{', '.join(names)} ({what})" for what, names in groups)
    return (
        f"How the images are made: {listed}; or a plugin's method. A method brings its published rates; a run "
        "lists the settings it does not read."
    )


def published_tables(method: Any, dataset: Any, ipc: Any) -> list[tuple[str, Table]]:
    """Origins and tables of a method's published settings, the more general first."""
    table = _table(method)
    settings = _settings(table)
    found: list[tuple[str, Table]] = [(f"method {method}", settings)] if settings else []
    found += _row(f"method {method}", table.get("ipc", {}), ipc)
    own = table.get("dataset", {}).get(dataset, {}) if isinstance(dataset, str) else {}
    return found + _row(f"method {method}, {dataset}", own.get("ipc", {}), ipc, below=False)


def fixed_table(method: Any) -> tuple[str, Table]:
    """Origin and table of the settings that define a method."""
    return f"method {method}", _table(method).get("fixed", {})


def _table(method: Any) -> Table:
    if not isinstance(method, str):
        return {}
    if method in own_methods():
        return own_methods()[method]
    plugin = method_plugins().get(method)
    return {} if plugin is None else plugin.table


def _settings(table: Table) -> Table:
    return {key: part for key, part in table.items() if key not in ("about", "ipc", "dataset", "fixed")}


def _row(origin: str, rows: Table, ipc: Any, *, below: bool = True) -> list[tuple[str, Table]]:
    """The row of the greatest published IPC up to this one; without `below`, only that of this one."""
    if not isinstance(ipc, int):
        return []
    known = [row for row in map(int, rows) if row == ipc or (below and row < ipc)]
    return [(f"{origin}, IPC {max(known)}", rows[str(max(known))])] if known else []

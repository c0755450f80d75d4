"""Consent to run code that a settings file names.

`network.name = "package.module:callable"` imports that module, which runs it. In a tesla.toml that came from someone
else this would be their choice and not yours, so what a file names is only imported once you have said so: by typing it
on a command line (`--set network.name=...`), or with `tesla trust`. Consent is for a name and the place it is imported
from, so that it does not cover another module of the same name in another folder.

It is kept in `trusted.jsonl` in the user's configuration folder, which nothing in a workspace can reach.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import platformdirs

from engine.errors import CorruptFileError, UsageError, tesla
from engine.settings.code import load_object
from engine.settings.plugins import Plugin, is_target
from engine.storage.atomic import disk
from engine.storage.untrusted import parse_json, read_bounded, typed

CONFIG = "TESLA_CONFIG"
"""Environment variable with another configuration folder to use."""

FOR_NOW = "TESLA_TRUSTED"
"""Environment variable with import paths, separated by commas, that this process and those it starts may import."""

MOST = 2**22
"""Bytes of the record of consents."""


@dataclass(frozen=True)
class Consent:
    """A line of the record."""

    network: str
    """`package.module:callable`."""
    place: str
    """File or folder of `package`."""


def is_import_path(name: str) -> bool:
    """Whether a network's name means code to import."""
    return ":" in name


def place_of(name: str) -> Path:
    """Where the code of an import path would be taken from, found without running any of it.

    The current folder comes first: users keep their network beside the workspace.

    Raises:
        UsageError: there is no such module.
    """
    package = name.partition(":")[0].partition(".")[0]
    here = str(Path.cwd())
    first = [] if is_target(name) else [here]  # a plugin is what is installed, not a file in the current folder
    if package in sys.builtin_module_names:
        return Path("built-in")
    found = PathFinder.find_spec(package, [*first, *sys.path]) if package.isidentifier() else None
    where = None if found is None else found.origin or next(iter(found.submodule_search_locations or ()), None)
    if where is None:
        raise UsageError(
            f"There is no module {name.partition(':')[0]} for {name}.",
            f"Run from the folder that contains it (you are in {here}), or install it.",
        )
    return Path(where) if where in ("built-in", "frozen") else Path(where).resolve()


def trust(name: str) -> Path:
    """Consent to an import path, from now on; the place it is imported from.

    Raises:
        UsageError: not an import path, or there is no such module.
    """
    if not is_import_path(name):
        raise UsageError(f"{name!r} is not an import path.", "An import path is package.module:callable")
    place = place_of(name)
    allow(name)
    if not is_recorded(name):
        path = _file()
        disk.make_folder(path.parent)
        disk.append(path, json.dumps(asdict(Consent(name, str(place)))).encode() + b"\n")
    return place


def allow(name: str) -> None:
    """Consent for this process and those it starts: for what a user or a program names explicitly."""
    allowed = _allowed()
    if name not in allowed:
        os.environ[FOR_NOW] = ",".join([*allowed, name])


def check_trusted(name: str, words: str = "") -> None:
    """Refuse to import code without consent.

    Args:
        name: the import path.
        words: what it is; unset: a network.

    Raises:
        UsageError: there is no consent; the message says from where it would be imported.
    """
    if name in _allowed() or is_recorded(name):
        return
    place = place_of(name)
    raise UsageError(
        f"The settings ask for {words or f'the network {name}'}, which is code that tesla would run from {place}.",
        f"If you trust it, allow it with: {tesla('trust', name)}",
    )


def is_recorded(name: str) -> bool:
    """Whether consent to an import path outlasts this process: `tesla trust` recorded it. False without the module."""
    try:
        return Consent(name, str(place_of(name))) in set(_consents())
    except UsageError:
        return False


def load_plugin(plugin: Plugin) -> Any:
    """The object of a plugin's entry point.

    Raises:
        UsageError: there is no consent to its code, it fails to import, or it has no such object.
    """
    check_trusted(plugin.target, plugin.words)
    module, _, attribute = plugin.target.partition(":")
    ask = f"Report it to its author, or uninstall {plugin.package}."
    try:
        return load_object(plugin.target)
    except AttributeError as error:
        if attribute in str(error):
            raise UsageError(f"{module} has no {attribute!r}; {plugin.words} needs it.", ask) from error
        raise UsageError(plugin.sentence(f"failed to import: AttributeError: {error}."), ask) from error
    except Exception as error:
        raise UsageError(plugin.sentence(f"failed to import: {type(error).__name__}: {error}."), ask) from error


def _file() -> Path:
    return Path(os.environ.get(CONFIG) or platformdirs.user_config_path("tesla")) / "trusted.jsonl"


def _allowed() -> list[str]:
    return [name for name in os.environ.get(FOR_NOW, "").split(",") if name]


def _consents() -> Iterator[Consent]:
    try:
        lines = read_bounded(_file(), MOST).splitlines()
    except (OSError, CorruptFileError):
        return
    for line in lines:
        try:
            yield typed(Consent, parse_json(line))
        except ValueError:
            continue

"""The only entry to datasets: `find_source` locates a dataset by its name, a folder, or a hub id.

To add one: its table in engine/settings/presets.toml. That is enough for a Hugging Face dataset; if files on
this machine come first, `code` in that table names a `Find` in a module here. Other packages: see docs/plugins.md.
"""

import difflib
import re
from collections.abc import Callable
from typing import Any

from engine.data.request import DataRequest
from engine.data.sources import Source
from engine.errors import DataError, UsageError
from engine.settings.code import load_object
from engine.settings.datasets import DatasetFacts, dataset_facts, dataset_names, dataset_plugins, own_datasets
from engine.settings.plugins import refusals
from engine.settings.trust import load_plugin

Find = Callable[[DataRequest], Source | None]
"""The source of a request, or None: not on this machine, use the hub. A plugin's function is called with
`(name, path, on_bad_file)` instead."""


def find_source(request: DataRequest) -> Source:
    """Locate a dataset: a known name, `folder`, or a hub id `owner/name`.

    Raises:
        UsageError: an unknown name, or the code of a plugin without consent, or that fails.
        DataError: the path is missing or of the wrong kind.
    """
    name, path = request.name, request.path
    if path is not None and not path.exists():
        raise DataError(
            f"dataset.path = {path} does not exist.", "Check the spelling; it is relative to the workspace's folder."
        )
    facts = dataset_facts(name)
    if facts is not None and facts.code and name in dataset_names():
        found = _finder(name, facts)(request)
        if found is not None:
            return found
    if (facts is not None and facts.hub) or re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        from engine.data.folder import find_pictures
        from engine.data.hub import hub_source

        pictures = find_pictures(request)  # `dataset.path` may hold its pictures instead of its tables
        return pictures or hub_source(request, facts or DatasetFacts(name, hub=name))
    raise UsageError(*_unknown(name))


def _finder(name: str, facts: DatasetFacts) -> Find:
    plugin = dataset_plugins().get(name)
    if plugin is None:
        finder: Find = load_object(facts.code)
        return finder
    loaded: Any = load_plugin(plugin)
    if not callable(loaded):
        raise UsageError(
            f"{plugin.target} cannot be called, but {plugin.words} must be a function.", "Report it to its author."
        )

    def checked(request: DataRequest) -> Source | None:
        source = loaded(request.name, request.path, request.on_bad_file)
        if source is not None and not isinstance(source, Source):
            raise UsageError(
                f"{plugin.target} returned a {type(source).__name__}, not an engine.data.sources.Source.",
                "Report it to its author.",
            )
        return source

    return checked


def _unknown(name: str) -> tuple[str, str]:
    """Message and hint for an unknown dataset."""
    for plugin, reason in refusals("dataset", own_datasets()):
        if plugin.name == name:
            return plugin.sentence(f"cannot be used: {reason}."), "`tesla doctor` lists all plugins."
    names = dataset_names()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    known = ", ".join(other for other in names if other != "folder")
    return (
        f"There is no dataset {name!r}.",
        f"{hint}Known: {known}; or a folder with one subfolder per class, or a hub id owner/name.",
    )

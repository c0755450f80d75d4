"""Configurations of a local dataset: those its README.md lists, or folders side by side that hold splits each."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.report import Choice
from engine.data.splits import KEYWORDS, FoundSplit, FoundSplits, find_splits, split_parents, split_words
from engine.data.tables.arrow_tables import Features
from engine.data.tables.readme import read_readme, unusable
from engine.errors import UsageError

ALL = "all"
"""Value of `dataset.config` for the files of all folders together."""
NAME_SEPARATOR = re.compile(r"[-_ ]+")
DIGITS = "0123456789"
DEFAULT = "default"
"""What `datasets` calls the configuration of a dataset without any."""


@dataclass(frozen=True)
class Configured:
    """The splits of the chosen configuration."""

    splits: FoundSplits
    """Their paths are relative to `folder`."""
    folder: str
    """Relative to the dataset's folder; empty for that folder itself."""
    choice: Choice | None
    """The configuration; None where the dataset has none."""
    others: tuple[str, ...] = ()
    """Configurations that were not chosen."""
    types: Features = field(default_factory=dict)
    """Column types that README.md states, for files that do not."""


def choose_config(name: str, root: Path, paths: Sequence[str], wanted: str | None) -> Configured:
    """Choose a configuration and sort its files into splits.

    Args:
        name: the dataset, for people.
        root: its folder.
        paths: its data files, relative to `root`.
        wanted: the setting.

    Raises:
        UsageError: there are several and none is set, or none of that name.
        DataError: README.md cannot be read.
    """
    readme = read_readme(root)
    found = _configured(name, root, paths, wanted, readme.configs)
    return replace(found, types=readme.types_of(found.choice.value if found.choice is not None else None))


def _configured(
    name: str, root: Path, paths: Sequence[str], wanted: str | None, listed: Mapping[str, Mapping[str, Any]]
) -> Configured:
    if listed:
        found = {config: _by_patterns(root, paths, params) for config, params in listed.items()}
        full = {config: (folder, splits) for config, (folder, splits) in found.items() if splits.splits}
        if full:
            return _choose(name, full, wanted, _default_of(listed, full), "README.md")
    roots = _folder_configs(paths)
    if wanted == ALL and ALL not in roots:
        return Configured(
            find_splits(paths), "", Choice(ALL, "dataset.config = all: the files of all folders together")
        )
    configs = {config: (at, find_splits(_inside(paths, at, roots.values()))) for config, at in roots.items()}
    if len(roots) == 1 and wanted != ALL:
        ((at, whole),) = configs.values()
        named = _name_configs(whole)
        if named:
            return _choose(name, {config: (at, find_splits(named[config])) for config in named}, wanted, None, "files")
    if len(roots) == 1 and wanted is None:
        ((config, (at, splits)),) = configs.items()
        return Configured(splits, at, Choice(config, f"the folder {at}") if at else None)
    return _choose(name, configs, wanted, None, "folders")


def _choose(
    name: str, configs: Mapping[str, tuple[str, FoundSplits]], wanted: str | None, default: str | None, origin: str
) -> Configured:
    names = list(configs)
    if wanted is not None:
        if wanted not in configs:
            raise _unknown(name, wanted, names)
        chosen, why = wanted, f"dataset.config = {wanted}"
    elif len(names) == 1:
        chosen, why = names[0], f"the only configuration in {origin}"
    elif default is not None:
        chosen, why = default, f"the default in {origin}"
    else:
        raise UsageError(*ask_for_config(name, names, together="" if origin == "README.md" else origin))
    folder, splits = configs[chosen]
    choice = Choice(chosen, why) if names != [DEFAULT] else None
    return Configured(splits, folder, choice, tuple(other for other in names if other != chosen))


def ask_for_config(name: str, names: Sequence[str], *, together: str = "") -> tuple[str, str]:
    """Message and hint where one of several configurations has to be chosen; `together`: of folders, or files."""
    shown = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    joined = "the files of all these folders" if together == "folders" else "all these files"
    every = f", or to {ALL} to use {joined} together" if together else ""
    return (
        f"{name} has several configurations: {shown}.",
        f"Set dataset.config to one of them, as in dataset.config = {names[0]}{every}.",
    )


def _unknown(name: str, wanted: str, names: Sequence[str]) -> UsageError:
    return UsageError(*unknown_config(name, wanted, names))


def unknown_config(name: str, wanted: str, names: Sequence[str]) -> tuple[str, str]:
    """Message and hint for a configuration that does not exist."""
    if list(names) in ([], [DEFAULT]):
        return f"dataset.config = {wanted}: {name} has no configurations.", "Remove dataset.config."
    near = difflib.get_close_matches(wanted, names, n=1)
    return (
        f"dataset.config = {wanted}: there is no such configuration. {name} has {', '.join(names[:20])}.",
        f"Did you mean {near[0]}?" if near else "Set dataset.config to one of them.",
    )


# ---------------------------------------------------------------- folders


def _folder_configs(paths: Sequence[str]) -> dict[str, str]:
    """Configurations and their folders: folders of which several hold the same split.

    Where names tell no split, folders side by side may be parts of one table or tables of their own: they count as
    configurations, so that a person decides.
    """
    parents = split_parents(paths)
    roots = sorted(parents)
    if not parents:
        roots = _side_by_side(paths)
    elif len(roots) > 1 and sum(map(len, parents.values())) == len(set[str]().union(*parents.values())):
        return {DEFAULT: ""}  # train in one folder, test in another: one dataset
    shared = _shared(roots)
    return {root[len(shared) :] or DEFAULT: root for root in roots}


def _name_configs(found: FoundSplits) -> dict[str, list[str]]:
    """Configurations and their files, told by file names: `full-train` and `full-test` beside those of `mini`.

    All have the same splits, at least two; empty if there are no such names.
    """
    files: dict[str, list[str]] = {}
    splits: dict[str, set[str]] = {}
    for split in found.splits:
        for path in split.paths:
            stem = path.rpartition("/")[2].partition(".")[0]
            words = [word for word in NAME_SEPARATOR.split(stem) if word.strip(DIGITS) and not split_words(word)]
            config = "-".join(word for word in words if word != "of")
            files.setdefault(config, []).append(path)
            splits.setdefault(config, set()).add(split.name)
    several = len(files) > 1 and all(files) and len(set(map(frozenset, splits.values()))) == 1
    return (
        files if several and len(found.splits) > 1 and {split.name for split in found.splits} <= set(KEYWORDS) else {}
    )


def _side_by_side(paths: Sequence[str]) -> list[str]:
    """Folders side by side that hold all files; the dataset's own folder where some are not in such a folder."""
    folder = ""
    while True:
        names = sorted({path[len(folder) :].partition("/")[0] for path in paths if "/" in path[len(folder) :]})
        loose = any("/" not in path[len(folder) :] for path in paths)
        if loose or not names:
            return [""]
        if len(names) > 1:
            return [f"{folder}{name}" for name in names]
        folder += f"{names[0]}/"


def _inside(paths: Sequence[str], root: str, roots: Iterable[str]) -> list[str]:
    """Files below a configuration's folder, and not in that of another, relative to it."""
    start = f"{root}/" if root else ""
    inner = tuple(f"{other}/" for other in roots if other != root and other.startswith(start))
    return [path[len(start) :] for path in paths if path.startswith(start) and not path.startswith(inner)]


def _shared(roots: Sequence[str]) -> str:
    """The folder that all of several folders are in, with a slash; empty for one folder."""
    if len(roots) < 2:
        return ""
    parts = [root.split("/")[:-1] for root in roots]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "".join(f"{part}/" for part in common)


# ---------------------------------------------------------------- README.md


def _default_of(listed: Mapping[str, Mapping[str, Any]], full: Mapping[str, Any]) -> str | None:
    marked = [config for config in full if listed[config].get("default") is True]
    if len(marked) == 1:
        return marked[0]
    return DEFAULT if not marked and DEFAULT in full else None


def _by_patterns(root: Path, paths: Sequence[str], params: Mapping[str, Any]) -> tuple[str, FoundSplits]:
    """The folder and splits of a configuration in README.md; patterns match data files below `root`, and no others.

    Raises:
        DataError: its patterns are not what the library knows.
    """
    from datasets.data_files import resolve_pattern, sanitize_patterns

    folder = str(params.get("data_dir") or "").removeprefix("./").strip("/")
    inside = _inside(paths, folder, ())
    if params.get("data_files") is None:
        return folder, find_splits(inside)
    places = {str(root / folder / path): path for path in inside}
    splits = []
    try:
        listed = sanitize_patterns(params["data_files"])
    except Exception as error:  # any value can stand there
        raise unusable(root / "README.md", error) from error
    for split, patterns in listed.items():
        matched: set[str] = set()
        for pattern in map(str, patterns):
            # Not the library's to follow: README.md came with the data, and may name any place or address.
            if "://" not in pattern and "::" not in pattern and ".." not in Path(pattern).parts:
                with suppress(FileNotFoundError):
                    found = resolve_pattern(pattern.removeprefix("./").lstrip("/"), str(root / folder))
                    matched.update(places[path] for path in found if path in places)
        if matched:
            why = f"README.md: {', '.join(map(str, patterns[:3]))}"
            splits.append(FoundSplit(str(split), tuple(sorted(matched)), why))
    return folder, FoundSplits(tuple(splits))

"""Profiles: the protocols of publications, from published/*.toml, and where this program departs from them.

A profile is whole: with one, no preset and no method's table takes part, and a setting that it does not name has its
default. Its values are written as their source prints them. `distill.lr_images` is for the gradient of the whole loss
here; a rate that its publication uses with half of it (`half_gradient`) is halved on the way, and its origin says so.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from engine.errors import SettingsError
from engine.settings.facts import AFFECTS
from engine.settings.settings import Settings
from engine.settings.tables import LONGEST, Flat, flatten

NONE = "none"
"""Value of the setting `profile` that switches off one that tesla.toml sets."""
RATE = "distill.lr_images"
DEPARTURES = "departures.toml"
ABOUT_ROW = ("source", "half_gradient")
"""Keys of a row that are no settings."""
SEEDS = frozenset({"seed", "teachers.seed"})
"""Settings that choose among equal runs."""
ELSEWHERE = frozenset({"profile", "evaluate.whole_epochs", "evaluate.random_lr"})
"""Settings without an effect on a run with a profile: the name, and what only the methods whole and random read."""
COUNTED = frozenset({"distill.iterations", "evaluate.every"})
"""Settings that results depend on though they can change on an existing run, and no record names them."""
SAME = {"unrolled": "exact"}
"""Values of distill.gradient that give the same numbers."""


@dataclass(frozen=True)
class Departure:
    """Where a run with a profile does not do what is published. See departures.toml."""

    reason: str
    key: str = ""
    """The setting; empty for what no setting expresses."""
    what: str = ""
    profiles: tuple[str, ...] = ()
    """Empty: all."""
    where: Mapping[str, list[Any]] = field(default_factory=dict)
    """Values of settings in the rows that it is about, flat: lists of them. Empty: all rows."""
    ours: Any = None
    """The value of `key` that is used instead of the published one."""
    published: str = ""
    """The published value as text, where no value of the setting is the same."""
    number: bool = True
    """Whether published numbers may stand beside a run in spite of it."""

    def concerns(self, profile: str, published: Flat) -> bool:
        """Whether it is about runs with this row of this profile."""
        named = not self.profiles or profile in self.profiles
        return named and all(published[key] in values for key, values in self.where.items())


@dataclass(frozen=True)
class Difference:
    """A setting that is not as published."""

    key: str
    ours: Any
    published: Any
    reason: str = ""
    """Why, if `Departure` declares it; empty if the user's settings are the reason."""


@dataclass(frozen=True)
class ProfileRow:
    """A profile for one dataset and IPC."""

    profile: str
    dataset: str
    ipc: int
    source: str
    """Repository and file, or table of the paper."""
    printed: Flat
    """Settings as the source prints them, flat."""
    half_gradient: bool
    """Whether the printed rate of the images goes with half the gradient."""

    @property
    def name(self) -> str:
        """A name for people."""
        return f"{self.profile}, {self.dataset}, IPC {self.ipc}"

    @property
    def published(self) -> Flat:
        """The published value of every setting, in the terms of this program."""
        rate = {RATE: self.printed[RATE] / 2} if self.half_gradient else {}
        own = {"dataset.name": self.dataset, "distill.ipc": self.ipc, "profile": self.profile}
        return {**_defaults(), **self.printed, **rate, **own}

    @property
    def departures(self) -> list[Departure]:
        """Where a run with this row does not do what is published."""
        return [one for one in all_departures() if one.concerns(self.profile, self.published)]

    @property
    def comparable(self) -> bool:
        """Whether published numbers may stand beside a run with these settings."""
        return all(one.number for one in self.departures)

    def layers(self) -> list[tuple[str, Flat]]:
        """Origins and values, for `engine.settings.layers`."""
        origin = f"profile {self.name}"
        layers = [(origin, {"distill.ipc": self.ipc, **self.printed})]
        if self.half_gradient:
            words = f"{origin}: {self.printed[RATE]:g} for half the gradient"
            layers.append((words, {RATE: self.published[RATE]}))
        ours = {one.key: one.ours for one in self.departures if one.key}
        return [*layers, (f"departs from {origin}", ours)]

    def differences(self, flat: Mapping[str, Any]) -> list[Difference]:
        """How settings differ from the published ones, in the schema's order.

        Args:
            flat: every setting, as `EffectiveSettings.flat` gives them.
        """
        published, departures = self.published, {one.key: one for one in self.departures if one.key}
        found = []
        for key in protocol_keys():
            departure = departures.get(key)
            if departure is not None and flat[key] == departure.ours:
                printed = departure.published or published[key]
                if flat[key] != printed:
                    found.append(Difference(key, flat[key], printed, departure.reason))
            elif departure is not None and departure.published:
                found.append(Difference(key, flat[key], departure.published))
            elif not _same(key, flat[key], published[key]):
                found.append(Difference(key, flat[key], published[key]))
        return found


def profile_names() -> tuple[str, ...]:
    """Every profile."""
    return tuple(sorted(_tables()))


def profile_title(name: str) -> str:
    """What a profile reproduces, for people."""
    title: str = _table(name)["about"]["title"]
    return title


def profile_rows(name: str) -> list[ProfileRow]:
    """All rows of a profile, by dataset and IPC.

    Raises:
        SettingsError: there is no such profile.
    """
    datasets = _table(name)["dataset"]
    return [_row(name, dataset, ipc) for dataset in datasets for ipc in sorted(map(int, datasets[dataset]["ipc"]))]


def profile_row(name: str, dataset: Any, ipc: Any) -> ProfileRow:
    """The row of a profile for a dataset and IPC. There is none in between: nothing is published there.

    Raises:
        SettingsError: there is no such profile, or it has no such row; says which exist.
    """
    rows = {(row.dataset, row.ipc): row for row in profile_rows(name)}
    if isinstance(dataset, str) and isinstance(ipc, int) and (dataset, ipc) in rows:
        return rows[dataset, ipc]
    others = [other for other in profile_names() if _has(other, dataset, ipc)]
    instead = f" Profiles with this one: {', '.join(others)}." if others else ""
    shown = ", ".join(f"{one} IPC {_counts(name, one)}" for one in _table(name)["dataset"])
    raise SettingsError(
        f"The profile {name} has no row for {str(dataset)[:LONGEST]} at IPC {ipc}.", f"It has: {shown}.{instead}"
    )


@cache
def all_departures() -> tuple[Departure, ...]:
    """All of departures.toml."""
    tables = tomllib.loads(files("engine.settings").joinpath("published", DEPARTURES).read_text())["departure"]
    return tuple(Departure(**{**table, "profiles": tuple(table.get("profiles", ()))}) for table in tables)


@cache
def protocol_keys() -> tuple[str, ...]:
    """Settings that results depend on, in the schema's order: all but seeds and those of the machine and the files."""
    return tuple(
        key
        for key, affects in AFFECTS.items()
        if key not in SEEDS | ELSEWHERE
        and (affects.change == "never" or affects.distilled or affects.random or key in COUNTED)
    )


def _same(key: str, one: Any, other: Any) -> bool:
    if key == "distill.gradient":
        one, other = SAME.get(one, one), SAME.get(other, other)
    return bool(one == other)


@cache
def _defaults() -> Flat:
    return flatten(Settings().model_dump(mode="json"))


@cache
def _tables() -> dict[str, dict[str, Any]]:
    folder = files("engine.settings").joinpath("published")
    found = (file for file in folder.iterdir() if file.name.endswith(".toml") and file.name != DEPARTURES)
    return {file.name.removesuffix(".toml"): tomllib.loads(file.read_text()) for file in found}


def _table(name: Any) -> dict[str, Any]:
    if name in profile_names():
        return _tables()[name]
    shown = str(name)[:LONGEST]
    near = difflib.get_close_matches(shown, profile_names(), n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise SettingsError(f"There is no profile {shown!r}.", f"{hint}Profiles: {', '.join(profile_names())}.")


def _row(name: str, dataset: str, ipc: int) -> ProfileRow:
    table = _table(name)
    about, own = table["about"], table["dataset"][dataset]
    row = own["ipc"][str(ipc)]
    parts = [
        table["settings"],
        table.get("ipc", {}).get(str(ipc), {}),
        {key: part for key, part in own.items() if key != "ipc"},
        {key: part for key, part in row.items() if key not in ABOUT_ROW},
    ]
    printed = {key: value for part in parts for key, value in flatten(part).items()}
    half = row.get("half_gradient", about.get("half_gradient", False))
    return ProfileRow(name, dataset, ipc, row.get("source", about["source"]), printed, half)


def _has(name: str, dataset: Any, ipc: Any) -> bool:
    return any((row.dataset, row.ipc) == (dataset, ipc) for row in profile_rows(name))


def _counts(name: str, dataset: str) -> str:
    return ", ".join(str(row.ipc) for row in profile_rows(name) if row.dataset == dataset)


def rows_of_method(method: str, dataset: str, ipc: int) -> Iterator[ProfileRow]:
    """The rows of all profiles for a method, dataset and IPC."""
    for name in profile_names():
        for row in profile_rows(name):
            if (row.printed["distill.method"], row.dataset, row.ipc) == (method, dataset, ipc):
                yield row

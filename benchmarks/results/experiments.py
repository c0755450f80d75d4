"""The experiments of experiments.toml, and the runs that they consist of."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.settings.methods import fixed_table
from engine.settings.tables import flatten

FILE = Path(__file__).with_name("experiments.toml")
RATE = "distill.lr_images"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Search(_Table):
    """A learning rate of the images that is searched on the held-out part, with runs of their own."""

    rates: tuple[float, ...] = Field(min_length=1)
    seed: int
    set: tuple[str, ...] = ()
    """Settings of the searching runs, above the member's."""


class Member(_Table):
    """One row: the same settings under several seeds."""

    name: str
    label: str
    ipc: int | None = None
    """Unset: the experiment's."""
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    """Unset: the experiment's."""
    search: bool = False
    """Whether its rate is the best of the experiment's search."""
    run: str = ""
    """Name of its only run, where that does not follow the experiment's pattern."""


class Pair(_Table):
    """Two members whose runs of equal seeds are compared."""

    a: str
    b: str
    label: str


class Experiment(_Table):
    """A set of members in one workspace."""

    key: str
    title: str
    workspace: str
    """What its folder is called in commands."""
    dataset: str
    init: tuple[str, ...] = ()
    """Settings of the workspace."""
    ipc: int = 1
    set: tuple[str, ...] = ()
    """Settings of every run."""
    seeds: tuple[int, ...]
    search: Search | None = None
    members: tuple[Member, ...]
    pairs: tuple[Pair, ...] = ()
    networks: tuple[str, ...] = ()
    """Other networks that the finished sets are tested with."""
    runs_of: str = ""
    """The experiment whose runs these are, where only their networks are new."""
    whole_from: str = ""
    """The experiment that has the accuracy of all training images, where this one has no such member."""
    names: str = "{member}-seed-{seed}"
    search_names: str = "{member}-lr{rate}-seed-{seed}"
    note: str = ""
    """What a reader of its tables must know."""

    def member(self, name: str) -> Member:
        """A member by name."""
        return next(member for member in self.members if member.name == name)

    @cached_property
    def planned(self) -> tuple["Planned", ...]:
        """Every run, the searching ones first."""
        return (*self._searching(), *self._measuring())

    def _searching(self) -> Iterator["Planned"]:
        if self.search is None:
            return
        for member in (member for member in self.members if member.search):
            for rate in self.search.rates:
                name = self.search_names.format(member=member.name, rate=f"{rate:g}", seed=self.search.seed)
                settings = _merged(self.set, member.set, self.search.set, (f"{RATE}={rate:g}",))
                yield Planned(name, member, self.search.seed, member.ipc or self.ipc, settings, rate)

    def _measuring(self) -> Iterator["Planned"]:
        for member in self.members:
            for seed in member.seeds or self.seeds:
                name = member.run or self.names.format(member=member.name, seed=seed)
                yield Planned(name, member, seed, member.ipc or self.ipc, _merged(self.set, member.set), None)


def _merged(*layers: Sequence[str]) -> tuple[str, ...]:
    """`key=value` texts, the last of every key, without those that the method decides itself."""
    values = dict(text.split("=", 1) for layer in layers for text in layer)
    fixed = flatten(fixed_table(values.get("distill.method", "tesla"))[1])
    return tuple(f"{key}={value}" for key, value in values.items() if key not in fixed)


@dataclass(frozen=True)
class Planned:
    """A run of an experiment."""

    name: str
    member: Member
    seed: int
    ipc: int
    settings: tuple[str, ...]
    """`key=value` texts, without the seed and without a rate that a search decides."""
    rate: float | None
    """The rate that it tries; None: it is measured, not part of a search."""

    @property
    def waits(self) -> bool:
        """Whether its rate is decided by a search."""
        return self.rate is None and self.member.search

    def words(self, folder: str, chosen: float | None) -> list[str]:
        """The arguments of `tesla` that start or resume it; `chosen`: the rate that the search found."""
        texts = [f"seed={self.seed}", *self.settings]
        if self.waits and chosen is not None:
            texts.append(f"{RATE}={chosen:g}")
        options = [word for text in texts for word in ("--set", text)]
        return ["run", folder, "--run", self.name, "--ipc", str(self.ipc), *options]


def load_experiments(file: Path = FILE) -> dict[str, Experiment]:
    """All experiments by key.

    Raises:
        SystemExit: the file is wrong; says where.
    """
    try:
        tables = tomllib.loads(file.read_text())
        found = {key: Experiment(key=key, **table) for key, table in tables.items()}
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise SystemExit(f"{file}: {error}") from error
    for experiment in found.values():
        _check(experiment, found, file)
    return found


def _check(experiment: Experiment, known: Mapping[str, Experiment], file: Path) -> None:
    """Refuse names that name nothing."""
    members = {member.name for member in experiment.members}
    wrong = {name for pair in experiment.pairs for name in (pair.a, pair.b)} - members
    wrong |= {name for name in (experiment.runs_of, experiment.whole_from) if name and name not in known}
    if wrong:
        raise SystemExit(f"{file}: {experiment.key} names {', '.join(sorted(wrong))}, which does not exist.")
    if experiment.search is None and any(member.search for member in experiment.members):
        raise SystemExit(f"{file}: {experiment.key} has a member with search = true, but no search.")
    names = [run.name for run in experiment.planned]
    if len(names) != len(set(names)):
        raise SystemExit(f"{file}: two runs of {experiment.key} have the same name.")


def choose_rate(experiment: Experiment, member: Member, held_out: Mapping[str, float]) -> float | None:
    """The rate with the highest held-out accuracy, the lowest of equals; None while a run of the search is missing.

    Args:
        experiment: whose search it is.
        member: whose rate is chosen.
        held_out: the best held-out accuracy of every finished searching run, by its name.
    """
    tried = [run for run in experiment.planned if run.member == member and run.rate is not None]
    if not tried or any(run.name not in held_out for run in tried):
        return None
    return max(tried, key=lambda run: (held_out[run.name], -(run.rate or 0))).rate

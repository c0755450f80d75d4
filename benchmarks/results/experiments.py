"""The experiments of experiments.toml, and the runs that they consist of."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

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
    tests: tuple[str, ...] = ()
    """Settings `evaluate.*` of those tests, above the run's."""
    runs_of: str = ""
    """The experiment whose runs these are, where only their networks are new."""
    note: str = ""
    """What a reader of its tables must know."""

    @property
    def ipcs(self) -> list[int]:
        """Images per class of its members."""
        return sorted({member.ipc or self.ipc for member in self.members})

    def of_ipc(self, ipc: int) -> list[Member]:
        """Its members with so many images per class."""
        return [member for member in self.members if (member.ipc or self.ipc) == ipc]

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
                name = f"{member.name}-lr{rate:g}-seed-{self.search.seed}"
                settings = _merged(self.set, member.set, self.search.set, (f"{RATE}={rate:g}",))
                yield Planned(name, member, self.search.seed, member.ipc or self.ipc, settings, rate)

    def _measuring(self) -> list["Planned"]:
        """By seed: what is stopped early has pairs of equal seeds."""
        runs = [
            Planned(f"{one.name}-seed-{seed}", one, seed, one.ipc or self.ipc, _merged(self.set, one.set), None)
            for one in self.members
            for seed in one.seeds or self.seeds
        ]
        return sorted(runs, key=lambda run: run.seed)


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

    def words(self, folder: Path, chosen: float | str | None) -> list[str]:
        """The arguments of `tesla` that start or resume it; `chosen`: the rate that the search found."""
        texts = [f"seed={self.seed}", *self.settings]
        if self.waits:
            texts.append(f"{RATE}={chosen}")
        options = [word for text in texts for word in ("--set", text)]
        return ["run", str(folder), "--run", self.name, "--ipc", str(self.ipc), *options]


def load_experiments(file: Path = FILE) -> dict[str, Experiment]:
    """All experiments by key.

    Raises:
        SystemExit: two runs of an experiment would have the same name.
    """
    found = {key: Experiment(key=key, **table) for key, table in tomllib.loads(file.read_text()).items()}
    for experiment in found.values():
        names = [run.name for run in experiment.planned]
        if len(names) != len(set(names)):
            raise SystemExit(f"{file}: two runs of {experiment.key} have the same name.")
    return found

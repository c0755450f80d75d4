"""Measuring several processes in turns: round after round, each once a round."""

import math
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from engine.errors import TeslaError
from engine.tools.bench.worker import Worker

SHARE = 0.4
"""While less than this share of the machine's memory is free, a process ends after its turn and starts again."""

STARTING = "starting processes"


@dataclass
class Candidate:
    """One thing to measure, in its own process."""

    name: str
    """For progress."""
    function: str
    """Import path of what prepares it, see worker.py."""
    arguments: Mapping[str, Any]
    weight: float = 1.0
    """Guess of what one measurement takes beside the others; only for the time left."""
    extra: float = 0.0
    """The same for the first one, where it takes longer."""
    first: dict[str, Any] = field(default_factory=dict)
    """The first answer: warming up, compiling."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """One for each round."""
    problem: str = ""
    """Why there are no (further) answers."""


@dataclass
class Load:
    """The machine's load average over a minute while measuring; what is measured is part of it."""

    least: float = math.inf
    most: float = 0.0

    def look(self) -> None:
        """Take it into account."""
        now = psutil.getloadavg()[0]
        self.least, self.most = min(self.least, now), max(self.most, now)

    @property
    def words(self) -> str:
        """Least to most, if looked at."""
        return f"{self.least:.1f} to {self.most:.1f}" if self.least <= self.most else ""

    def as_json(self) -> dict[str, float] | None:
        """None if never looked at."""
        return {"least": self.least, "most": self.most} if self.words else None


@dataclass(frozen=True)
class Turn:
    """What is measured next, and how much is done, 0..1."""

    share: float
    name: str
    first: bool


def in_turns(candidates: Sequence[Candidate], rounds: int) -> Generator[Turn, None, None]:
    """Measure every candidate once to warm up and `rounds` times in turns; answers are put into the candidates.

    A candidate that fails is skipped from then on, with the reason in its `problem`. Closing the generator ends all
    processes.
    """
    workers: dict[int, Worker] = {}
    total = sum(candidate.extra + candidate.weight * (rounds + 1) for candidate in candidates)
    done = 0.0
    try:
        # Starting takes seconds on one core: all at once, and nothing is measured before the last is ready.
        yield Turn(0.0, STARTING, first=True)
        for place, candidate in enumerate(candidates):
            if not candidate.problem:
                workers[place] = Worker(candidate.function, candidate.arguments)
        for place in list(workers):
            with _problems_of(candidates[place], workers, place):
                workers[place].ready()
        for number in range(rounds + 1):
            for place, candidate in enumerate(candidates):
                if not candidate.problem:
                    yield Turn(done / total, candidate.name, first=number == 0)
                    with _problems_of(candidate, workers, place):
                        _turn(candidate, workers, place)
                done += candidate.weight + (candidate.extra if number == 0 else 0)
    finally:
        for worker in workers.values():
            worker.close()


@contextmanager
def _problems_of(candidate: Candidate, workers: dict[int, Worker], place: int) -> Iterator[None]:
    try:
        yield
    except TeslaError as error:
        candidate.problem = error.message
        workers.pop(place).close()


def _turn(candidate: Candidate, workers: dict[int, Worker], place: int) -> None:
    if place not in workers:
        workers[place] = Worker(candidate.function, candidate.arguments)
        workers[place].ready()
        workers[place].measure()
    answer = workers[place].measure()
    if candidate.first:
        candidate.answers.append(answer)
    else:
        candidate.first = answer
    memory = psutil.virtual_memory()
    if memory.available < SHARE * memory.total:
        workers.pop(place).close()


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    count: int
    median: float
    low: float
    """The lower quartile (of fewer than four measurements: the least)."""
    high: float
    """The upper quartile (of fewer than four: the greatest)."""


def spread(values: Sequence[float]) -> Spread | None:
    """Of any number of values; None of none."""
    if not values:
        return None
    low, high = min(values), max(values)
    if len(values) >= 4:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(len(values), statistics.median(values), low, high)


def repeat_for(least: float, most: int = 1000) -> Generator[None, None, None]:
    """As often as fits in `least` seconds, at least once: for measurements too short to use alone."""
    began = time.perf_counter()
    for _ in range(most):
        yield
        if time.perf_counter() - began >= least:
            return

"""`tesla bench gradient`: time and memory of the matching gradient by mode, beside the loop of published code."""

import statistics
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.data import free_memory
from engine.events import Progress
from engine.runtime.device import resolve_device
from engine.storage.filesystem import format_bytes
from engine.tools.bench.cases import PUBLISHED, Compute, Configuration
from engine.tools.bench.flops import needed_flops
from engine.tools.bench.turns import STARTING, Candidate, Load, Spread, Turn, in_turns, spread

STAGE = "benchmark"
GROWING = "unrolled"
"""The mode that keeps the graph of every step; a T for which that cannot fit is not tried."""
HEADROOM = 0.9
"""Share of the free memory that it may be expected to take."""
NOT_COMPILED = "torch.compile is not used"
"""How the warning begins where compiled steps were asked for and eager ones are used."""
COMPILING = 35.0
"""Guess, in seconds of two CPU cores, for the time left; nothing else depends on it."""


@dataclass
class Row:
    """What was measured of one configuration."""

    configuration: Configuration
    flops: int
    """Floating-point operations an iteration needs (flops.py)."""
    first_seconds: float | None = None
    """The first iteration: with compiling, where something is compiled."""
    samples: list[float] = field(default_factory=list)
    """Seconds of each measured iteration."""
    cpu_samples: list[float] = field(default_factory=list)
    """Processor seconds of each, all threads together."""
    peak_bytes: int | None = None
    """Above what the process held before; the greatest of all rounds. Without compiling, if there was a round."""
    base_bytes: int | None = None
    """What the process held before: Python, PyTorch, images, parameters."""
    note: str = ""
    """A note for readers: it fell back to eager, or could not be measured."""
    fell_back: bool = False
    """Compiled steps were asked for, and eager ones were measured."""
    switches: dict[str, Any] = field(default_factory=dict)
    """Threads, allocator, precision and determinism as read back in the measured process."""

    @property
    def label(self) -> str:
        """The configuration's; says so if what was measured is not that."""
        label = self.configuration.label
        return label.removesuffix("compiled") + "NOT compiled" if self.fell_back else label

    @property
    def cpu_seconds(self) -> float | None:
        """Median processor time of an iteration."""
        return statistics.median(self.cpu_samples) if self.cpu_samples else None

    @property
    def seconds(self) -> Spread | None:
        """Per iteration; of the first one where it is all there is."""
        return spread(self.samples)

    def as_json(self) -> dict[str, Any]:
        """All that was measured, and what follows from it."""
        seconds = self.seconds
        return {
            "label": self.label,
            **asdict(self.configuration),
            "fell_back": self.fell_back,
            "switches": self.switches,
            "flops": self.flops,
            "first_seconds": self.first_seconds,
            "samples": self.samples,
            "cpu_samples": self.cpu_samples,
            "cpu_seconds": self.cpu_seconds,
            "seconds": None if seconds is None else asdict(seconds),
            "seconds_per_step": None if seconds is None else seconds.median / self.configuration.steps,
            "flops_per_second": None if seconds is None else self.flops / seconds.median,
            "peak_bytes": self.peak_bytes,
            "base_bytes": self.base_bytes,
            "note": self.note,
        }


class GradientBench:
    """Rows are filled while `run` is iterated; a caller that stops early has what was measured so far.

    Args:
        configurations: see `cases.configurations`.
        rounds: measurements of each after the first, which warms up.
    """

    def __init__(self, configurations: Sequence[Configuration], rounds: int) -> None:
        needed: dict[tuple[object, ...], int] = {}
        self.rows = []
        for chosen in configurations:
            key = (chosen.shape, chosen.mode, chosen.steps)
            needed.setdefault(key, 0 if key in needed else needed_flops(chosen))
            self.rows.append(Row(chosen, needed[key]))
        self.rounds = rounds
        self.load = Load()
        self.matmul: dict[tuple[str, str], float] = {}
        """Best rate of square matrix products by precision and side, floating-point operations per second."""

    def peak_flops(self, compute: Compute) -> float | None:
        """The machine's best matrix product at that precision, floating-point operations per second."""
        return max((rate for (kind, _), rate in self.matmul.items() if kind == compute.precision), default=None)

    def share(self, row: Row) -> float | None:
        """Of the peak, 0..1."""
        peak = self.peak_flops(row.configuration.compute)
        return None if row.seconds is None or peak is None else row.flops / row.seconds.median / peak

    def ratio(self, row: Row, memory: str | None = None, *, cpu: bool = False) -> float | None:
        """Median time over that of `published` at the same shape, T and switches.

        None if that is not known, and for a `published` with an allocator that no other mode has.

        Args:
            row: one of `rows`.
            memory: the allocator of `published`; None: the row's own.
            cpu: of processor time.
        """
        wanted = memory or row.configuration.compute.memory
        if memory is None and self.is_aside(row):
            return None
        for other in self.rows:
            there = other.configuration
            if there.mode == PUBLISHED and there.problem == row.configuration.problem:
                times = [_median(one, cpu) for one in (row, other)]
                if there.compute.memory == wanted and times[0] is not None and times[1] is not None:
                    return times[0] / times[1]
        return None

    def is_aside(self, row: Row) -> bool:
        """Whether it is `published` as its authors run it, beside the one that the other modes are compared with."""
        chosen = row.configuration
        others = [one.configuration for one in self.rows if one.configuration.problem == chosen.problem]
        allocators = {one.compute.memory for one in others if one.mode != PUBLISHED} or {others[0].compute.memory}
        return chosen.mode == PUBLISHED and chosen.compute.memory not in allocators

    def run(self) -> Generator[Progress, None, None]:
        """Measure everything: group by group of one shape, T and precision, whose modes are measured in turns."""
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.configuration.problem, []).append(row)
        weights = [sum(_weight(row) * (self.rounds + 1) + _extra(row) for row in rows) for rows in groups.values()]
        before = 0.0
        count = len(self.rows) * (self.rounds + 1)
        for weight, rows in zip(weights, groups.values(), strict=True):
            for turn in self._group(rows):
                share = (before + turn.share * weight) / sum(weights)
                words = f"{turn.name}, T = {rows[0].configuration.steps}"
                if turn.first and turn.name != STARTING:
                    words += " (compiling)" if turn.name.endswith("compiled") else " (warming up)"
                yield Progress(stage=STAGE, done=share * count, total=count, unit="measurements", detail=words)
            before += weight
        yield Progress(stage=STAGE, done=count, total=count, unit="measurements", detail="done")

    def _group(self, rows: list[Row]) -> Generator[Turn, None, None]:
        compute = rows[0].configuration.compute
        matmul = Candidate(
            "matrix products",
            "engine.tools.bench.iteration:prepare_matmul",
            asdict(compute),
            weight=0.5,
        )
        candidates = [
            Candidate(
                row.configuration.label,
                "engine.tools.bench.iteration:prepare",
                row.configuration.arguments(),
                weight=_weight(row),
                extra=_extra(row),
                problem=self._too_large(row),
            )
            for row in rows
        ]
        for turn in in_turns([matmul, *candidates], self.rounds):
            self.load.look()
            yield turn
            self._take(matmul, rows, candidates)
        self._take(matmul, rows, candidates)

    def _take(self, matmul: Candidate, rows: list[Row], candidates: list[Candidate]) -> None:
        for answer in (matmul.first, *matmul.answers):
            for size, rate in answer.get("flops", {}).items():
                key = (rows[0].configuration.compute.precision, size)
                self.matmul[key] = max(rate, self.matmul.get(key, 0.0))
        for row, candidate in zip(rows, candidates, strict=True):
            row.note = candidate.problem
            if not candidate.first:
                continue
            row.first_seconds = candidate.first["seconds"][0]
            row.base_bytes = candidate.first["base"]
            # Without a round, the first iteration's is all there is.
            row.peak_bytes = max(answer["peak"] for answer in candidate.answers or [candidate.first])
            row.samples = [second for answer in candidate.answers for second in answer["seconds"]]
            row.cpu_samples = [second for answer in candidate.answers for second in answer["cpu_seconds"]]
            row.switches = candidate.first["switches"]
            row.fell_back = any(note.startswith(NOT_COMPILED) for note in candidate.first["notes"])
            row.note = candidate.problem or "; ".join(dict.fromkeys(candidate.first["notes"]))

    def _too_large(self, row: Row) -> str:
        """Why not to try a mode that keeps every step, judged by its peak at a smaller T; empty to try it."""
        chosen = row.configuration
        smaller = [
            other
            for other in self.rows
            if other.configuration.mode == chosen.mode == GROWING
            and other.configuration.problem == replace(chosen, steps=other.configuration.steps).problem
            and other.configuration.steps < chosen.steps
        ]
        if not smaller:
            return ""
        largest = max(smaller, key=lambda other: other.configuration.steps)
        if largest.peak_bytes is None:
            return largest.note
        expected = largest.peak_bytes * chosen.steps / largest.configuration.steps
        free = free_memory(resolve_device(chosen.compute.device))
        if expected < HEADROOM * free:
            return ""
        return f"Not tried: it would take about {format_bytes(expected)}, and {format_bytes(free)} are free."


def _median(row: Row, cpu: bool) -> float | None:
    return row.cpu_seconds if cpu else None if row.seconds is None else row.seconds.median


def _weight(row: Row) -> float:
    """Seconds of an iteration on two CPU cores, roughly, plus what starting to measure takes."""
    return 0.3 + row.flops / 5e10


def _extra(row: Row) -> float:
    return COMPILING if row.configuration.compile else 3.0

"""`tesla bench teachers`, `evaluate` and `data`: images a second of whole stages, beside published code's loops."""

from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.events import Progress
from engine.tools.bench.cases import PUBLISHED, Compute
from engine.tools.bench.gradient import STAGE
from engine.tools.bench.turns import STARTING, Candidate, Load, Spread, in_turns, spread

STAGES = ("teachers", "evaluate", "data")


@dataclass
class StageRow:
    """What was measured of one way to do a stage."""

    label: str
    candidate: Candidate
    memory: str
    """The allocator policy, of `ALLOCATORS`."""

    @property
    def first_seconds(self) -> float | None:
        """The first time, with whatever is made only once (compiling)."""
        return self.candidate.first.get("seconds")

    @property
    def images(self) -> int:
        """Images of one measurement."""
        return int(self.candidate.first.get("images", 0))

    @property
    def seconds(self) -> Spread | None:
        """Of one measurement, without the first."""
        return spread([answer["seconds"] for answer in self.candidate.answers])

    @property
    def images_per_second(self) -> float | None:
        """By the median."""
        return None if self.seconds is None else self.images / self.seconds.median

    def as_json(self) -> dict[str, Any]:
        """All that was measured."""
        answers = self.candidate.answers
        return {
            "label": self.label,
            "memory": self.memory,
            "switches": self.candidate.first.get("switches", {}),
            "first_seconds": self.first_seconds,
            "samples": [answer["seconds"] for answer in answers],
            "cpu_samples": [answer["cpu_seconds"] for answer in answers],
            "seconds": None if self.seconds is None else asdict(self.seconds),
            "images": self.images,
            "images_per_second": self.images_per_second,
            "peak_bytes": max((answer["peak"] for answer in (self.candidate.first, *answers) if answer), default=None),
            "base_bytes": self.candidate.first.get("base"),
            "note": self.candidate.problem,
        }


class StageBench:
    """Rows are filled while `run` is iterated; a caller that stops early has what was measured so far.

    Args:
        stage: of `STAGES`.
        folder: a workspace with the settings to measure.
        ipc: images per class.
        problem: a description of it.
        rounds: measurements of each after the first, which warms up.
        compute: how; the same for all.
        default: measure published code with glibc's default allocator, too.
    """

    def __init__(
        self, stage: str, folder: Path, ipc: int, problem: str, rounds: int, compute: Compute, *, default: bool
    ) -> None:
        self.stage = stage
        self.problem = problem
        self.rounds = rounds
        self.load = Load()
        arguments = {"stage": stage, "folder": str(folder), "ipc": ipc}
        theirs = "engine.tools.bench.reference_implementation_stages:prepare_reference"
        ours = {"ours": {}} if stage != "data" else {"memory-mapped": {"resident": False}, "resident": {}}
        self.rows = []
        for memory in dict.fromkeys([compute.memory, "default"] if default else [compute.memory]):
            label = PUBLISHED + ("" if memory == compute.memory else f" ({memory} alloc.)")
            more = {**arguments, "compute": asdict(replace(compute, memory=memory))}
            self.rows.append(StageRow(label, Candidate(label, theirs, more, weight=2), memory))
        for label, resident in ours.items():
            function = "engine.tools.bench.our_stages:prepare_ours"
            more = {**arguments, **resident, "compute": asdict(compute)}
            self.rows.append(StageRow(label, Candidate(label, function, more, extra=1), compute.memory))

    def ratio(self, row: StageRow, memory: str | None = None) -> float | None:
        """Median time over that of the published loop.

        None if that is not known, and for the published loop with an allocator that ours does not have.

        Args:
            row: one of `rows`.
            memory: the allocator of the published loop; None: the row's own.
        """
        if memory is None and row.memory != self.rows[-1].memory:
            return None
        for base in self.rows:
            same = base.label.startswith(PUBLISHED) and base.memory == (memory or row.memory)
            if same and base.seconds is not None and row.seconds is not None:
                return row.seconds.median / base.seconds.median
        return None

    def run(self) -> Generator[Progress, None, None]:
        """Measure in turns."""
        count = len(self.rows) * (self.rounds + 1)
        for turn in in_turns([row.candidate for row in self.rows], self.rounds):
            self.load.look()
            words = turn.name + (" (warming up)" if turn.first and turn.name != STARTING else "")
            yield Progress(stage=STAGE, done=turn.share * count, total=count, unit="measurements", detail=words)
        yield Progress(stage=STAGE, done=count, total=count, unit="measurements", detail="done")

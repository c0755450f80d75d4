"""The measurements of a plan: a few pieces of a run, each in its own process, all of them within one time."""

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.events import Event, Progress, with_progress
from engine.runtime.subprocesses import run_isolated
from engine.settings import Settings
from engine.storage.temp_files import scratch_folder
from engine.tools.plan.facts import Facts
from engine.tools.plan.growing import busy
from engine.tools.plan.peers import at_run_size, real_per_class
from engine.tools.plan.problem import Found, matching_batch, views_of

STAGE = "plan"
BOLD = 0.75
"""Share of the available memory that a measurement may be expected to take."""
STARTING = 3.0
"""Seconds to start a process, before one was seen to start."""
LEAST = 1.0
"""Seconds that every measurement gets, however little is left."""
WEIGHTS = {"matching": 2.0, "iteration": 2.0}
"""Shares of the time that the measurements get; the others get 1."""

Measuring = Generator[Event, None, Found]


@dataclass(frozen=True)
class Measured:
    """Everything that was measured, or calculated in its place."""

    teachers: Found | None
    """None if none are left to train."""
    evaluations: dict[str, Found]
    """By network."""
    matching: list[Found]
    """Of matching steps at the run's own batch, or at two smaller ones; an iteration of a method that has none."""


def take_measurements(
    folder: Path,
    settings: Settings,
    facts: Facts,
    *,
    teachers_left: int,
    compiled: bool,
    available: int,
    seconds: float,
    budget: float,
) -> Generator[Event, None, Measured]:
    """Measure every piece that the rest of a run consists of. Use as `yield from`; nothing stays in the folder.

    Args:
        folder: of the workspace.
        settings: of the run.
        facts: of its dataset.
        teachers_left: trajectories to train.
        compiled: whether the run's matching steps are.
        available: bytes of memory a run could have.
        seconds: to spend on each of the measurements, about.
        budget: seconds that all of them together may take.

    Raises:
        TeslaError: a measurement failed.
    """
    networks = evaluated(settings, facts)
    last = "matching" if settings.needs_teachers else "iteration"
    ahead = [*(["teachers"] if teachers_left else []), *("evaluation" for _ in networks), last]
    with scratch_folder(folder, ".plan") as scratch:  # on the disk of the workspace
        bench = _Bench(settings, facts, scratch, seconds, int(BOLD * available), time.monotonic() + budget, ahead)
        teachers: Found | None = None
        if teachers_left:
            teachers = yield from bench.measure("teachers", "a teacher's batches", images=facts.train)
        evaluations = yield from _evaluations(bench, networks)
        if settings.needs_teachers:
            matching = points_of((yield from _matching(bench, compiled=compiled)), settings)
        else:
            matching = [(yield from _peer(bench))]
    return Measured(teachers, evaluations, matching)


def surroundings() -> dict[str, str]:
    """Variables of a measuring process. On a busy machine its threads sleep while they wait for each other, so that the
    CPU time they take is work (see `synthetic.Stopwatch`); where a variable is set, that is what a run has too.
    """
    chosen = any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
    return {"OMP_WAIT_POLICY": "PASSIVE"} if busy() > 1 and not chosen else {}


@dataclass
class _Bench:
    """What every measurement needs."""

    settings: Settings
    facts: Facts
    folder: Path
    seconds: float
    room: int
    """Bytes of memory that a measurement may take."""
    end: float
    """When all of them must be done, by the monotonic clock."""
    ahead: list[str]
    """Measurements that are not done yet."""
    done: int = 0
    starting: list[float] = field(default_factory=lambda: [STARTING * busy()])
    """Seconds of measurements that were not spent measuring: the latest counts."""

    def allowance(self) -> float:
        """Seconds for the next measurement: its share of what is left."""
        weights = [WEIGHTS.get(name, 1.0) for name in self.ahead]
        share = (self.end - time.monotonic()) * weights[0] / sum(weights)
        return max(LEAST, share - self.starting[-1])

    def measure(self, function: str, label: str, module: str = "measure", **arguments: Any) -> Measuring:
        """Call a function of measure.py, or of another module here, in its own process, reporting."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        everything = {
            "settings": self.settings.model_dump_json(), "shape": self.facts.shape, "folder": str(folder),
            "enough": self.seconds, "most": self.allowance(), "room": self.room, **arguments,
        }  # fmt: skip
        begun = time.monotonic()
        waiting = run_isolated(f"engine.tools.plan.{module}:{function}", everything, environment=surroundings())
        at = Progress(stage=STAGE, done=self.done, total=self.done + len(self.ahead), unit="measurements")
        try:
            found = yield from with_progress(waiting, at, label)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.done += 1
        self.ahead.pop(0)
        self.starting.append(time.monotonic() - begun - found["inside"])
        return found


def _evaluations(bench: _Bench, networks: list[str]) -> Generator[Event, None, dict[str, Found]]:
    """Measure every network that will be evaluated."""
    settings, facts = bench.settings, bench.facts
    views = views_of(settings, facts.channels, facts.resolution)
    images = facts.train if settings.traits.all_images else facts.classes * settings.distill.ipc * views
    found: dict[str, Found] = {}
    for name in networks:
        found[name] = yield from bench.measure("evaluation", f"evaluation of {name}", images=images, network=name)
    return found


def evaluated(settings: Settings, facts: Facts) -> list[str]:
    """Every network that is evaluated."""
    own = settings.network.name
    return list(dict.fromkeys([*([own] if facts.holdout else []), *(settings.evaluate.networks or (own,))]))


def _matching(bench: _Bench, *, compiled: bool) -> Measuring:
    """Measure matching steps, at the run's batch if that is safe and short."""
    settings, facts = bench.settings, bench.facts
    images = facts.classes * settings.distill.ipc
    batch = matching_batch(settings, images, views_of(settings, facts.channels, facts.resolution))
    # Two batches, so that a second one is not the first again.
    ipc = min(settings.distill.ipc, -(-2 * batch // facts.classes))
    label, images_made = f"matching steps of {batch} images", {"images": images, "ipc": ipc}
    return (yield from bench.measure("matching", label, "measure_matching", compiled=compiled, **images_made))


def points_of(found: Found, settings: Settings) -> list[Found]:
    """A measurement at the run's batch; or at the two largest smaller ones, by whose line memory is scaled up."""
    if found["batch"] == found["whole"] or len(found["points"]) < 2:
        return [found]
    return [
        {**found, "batch": size, "host": used, "device": used, "steps": found["few"]}
        for size, used in found["points"]
    ]  # fmt: skip


def _peer(bench: _Bench) -> Measuring:
    """Measure a method without teachers: an iteration, or the choice of real images."""
    settings = bench.settings
    label = f"an iteration of {settings.distill.method}" if settings.traits.iterates else "choosing the images"
    found = yield from bench.measure(
        "iteration", label, module="measure_peer", ipc=settings.distill.ipc,
        per_class=real_per_class(settings, bench.facts),
    )  # fmt: skip
    return at_run_size(found, settings)

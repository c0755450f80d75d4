"""The measurements of a plan: a few pieces of a run, each in its own process."""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import TeslaError
from engine.events import Event, Notice, Progress, with_progress
from engine.runtime.subprocesses import run_isolated
from engine.settings import Settings
from engine.storage.temp_files import temp_name
from engine.tools.plan.facts import Facts
from engine.tools.plan.peers import at_run_size, case_of
from engine.tools.plan.problem import SOFT, Found
from engine.tools.plan.synthetic import changed

STAGE = "plan"
DIRECT = 2**18
"""Pixels of a batch (B H W) up to which its size is measured at once; before a larger one, a small one is."""
BOLD = 0.75
"""Share of the available memory that a large batch may be expected to take, to be measured anyway."""
LONGEST = 30
"""Times the seconds of a measurement that a large one may be expected to take."""

Measuring = Generator[Event, None, Found]


@dataclass(frozen=True)
class Measured:
    """Everything that was measured."""

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

    Raises:
        TeslaError: a measurement failed.
    """
    with _scratch(folder) as scratch:
        bench = _Bench(settings, facts, scratch, seconds, total=len(_evaluated(settings, facts)) + 4)
        teachers: Found | None = None
        if teachers_left:
            teachers = yield from bench.measure("teachers", "a teacher's batches", images=facts.train)
        evaluations = yield from _evaluations(bench)
        if settings.needs_teachers:
            resolved = changed(settings, "compute", compile="on" if compiled else "off")
            matching = yield from _matching(replace(bench, settings=resolved), available)
        else:
            matching = [(yield from _peer(bench, available))]
    return Measured(teachers, evaluations, matching)


@dataclass
class _Bench:
    """What every measurement needs."""

    settings: Settings
    facts: Facts
    folder: Path
    seconds: float
    total: int
    """Most measurements there will be."""
    done: int = 0

    def measure(
        self, function: str, label: str, settings: Settings | None = None, module: str = "measure", **arguments: Any
    ) -> Measuring:
        """Call a function of measure.py, or of another module here, in its own process, reporting."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        everything = {
            "settings": (settings or self.settings).model_dump_json(), "shape": self.facts.shape,
            "folder": str(folder), "enough": self.seconds, **arguments,
        }  # fmt: skip
        waiting = run_isolated(f"engine.tools.plan.{module}:{function}", everything)
        at = Progress(stage=STAGE, done=self.done, total=self.total, unit="measurements")
        try:
            found = yield from with_progress(waiting, at, label)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.done += 1
        return found


def _evaluations(bench: _Bench) -> Generator[Event, None, dict[str, Found]]:
    """Measure every network that will be evaluated."""
    settings, facts = bench.settings, bench.facts
    images = facts.train if settings.traits.all_images else facts.classes * settings.distill.ipc
    found: dict[str, Found] = {}
    for name in _evaluated(settings, facts):
        found[name] = yield from bench.measure("evaluation", f"evaluation of {name}", images=images, network=name)
    return found


def _evaluated(settings: Settings, facts: Facts) -> list[str]:
    """Every network that is evaluated."""
    own = settings.network.name
    return list(dict.fromkeys([*([own] if facts.holdout else []), *(settings.evaluate.networks or (own,))]))


def _matching(bench: _Bench, available: int) -> Generator[Event, None, list[Found]]:
    """Measure matching steps at the run's batch where that is safe and short, else at two smaller ones."""
    settings, facts = bench.settings, bench.facts
    images = facts.classes * settings.distill.ipc
    wanted = settings.distill.batch
    batch = images if wanted == "full" else min(wanted, images)
    probes: list[Found] = []
    step = 0.0
    if batch * facts.resolution**2 > DIRECT:
        probes = yield from _probes(bench)
        first, second = probes
        each = (second["host"] - first["host"]) / (second["batch"] - first["batch"])
        labels = second["label_seconds"] * second["images"] if settings.labels.kind in SOFT else 0.0
        step = max(0.0, second["seconds"] - labels) * batch / second["batch"]
        if second["host"] + each * (batch - second["batch"]) > BOLD * available or 2 * step > LONGEST * bench.seconds:
            words = f"Steps of {batch} images are scaled up from {first['batch']} and {second['batch']}."
            yield Notice(level="info", message=words)
            return probes
    # Two batches, so that a second one is not the first again.
    ipc = min(settings.distill.ipc, _ipc(facts, 2 * batch))
    try:
        whole = yield from bench.measure(
            "matching", f"matching steps of {batch} images", ipc=ipc, step=step, probe=False
        )  # fmt: skip
    except TeslaError as error:
        if not probes:
            raise
        yield Notice(level="warning", message=f"{error.message} Scaled up from smaller batches instead.")
        return probes
    return [{**whole, "batch": batch}]


def _probes(bench: _Bench) -> Generator[Event, None, list[Found]]:
    """Measure a matching step at two small batches."""
    pixels = bench.facts.resolution**2
    probes: list[Found] = []
    for batch in (max(1, DIRECT // 4 // pixels), max(2, DIRECT // pixels)):
        smaller = changed(bench.settings, "distill", batch=batch)
        label, ipc = f"a step of {batch} images", _ipc(bench.facts, batch)
        found = yield from bench.measure("matching", label, smaller, ipc=ipc, step=0.0, probe=True)
        probes.append({**found, "batch": batch})
    return probes


def _peer(bench: _Bench, available: int) -> Measuring:
    """Measure a method without teachers: an iteration, or the choice of real images."""
    settings, facts = bench.settings, bench.facts
    case = case_of(settings, facts, available)
    label = f"an iteration of {settings.distill.method}" if settings.traits.iterates else "choosing the images"
    smaller = replace(bench, facts=replace(facts, classes=case.classes))
    found = yield from smaller.measure("iteration", label, module="measure_peer", ipc=case.ipc, train=case.train)
    return at_run_size(found, case, settings, facts)


def _ipc(facts: Facts, images: int) -> int:
    """Images per class for at least that many images."""
    return -(-images // facts.classes)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for the measurements' files on the workspace's disk; always removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{temp_name('.plan')}-", dir=folder) as name:
        yield Path(name)

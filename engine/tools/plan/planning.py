"""Measure a few pieces of a run, each in its own process, and scale them up."""

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from engine.data import cache_root, free_memory
from engine.errors import TeslaError, UsageError
from engine.events import Event, Notice, Progress, with_progress
from engine.methods.registry import method_of
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.device import resolve_device
from engine.runtime.disk_space import bytes_in
from engine.runtime.subprocesses import run_isolated
from engine.session.open_task import check_distils
from engine.settings import EffectiveSettings, Settings
from engine.storage.filesystem import disk
from engine.storage.temp_files import temp_name
from engine.tools.plan.facts import Facts, find_facts
from engine.tools.plan.fitting import peaks, shortages
from engine.tools.plan.peers import at_run_size, case_of, peer_parts
from engine.tools.plan.report import DiskRoom, DiskUse, Limits, Plan, Where
from engine.tools.plan.sums import (
    SOFT,
    Problem,
    disk_uses,
    durations,
    iteration_seconds,
    kept_vectors,
    memory_parts,
)
from engine.tools.plan.synthetic import changed
from engine.training.compile_policy import matching_compiles
from engine.training.teacher_buffer import TeacherBuffer

STAGE = "plan"
SECONDS = 4.0
"""Spent on each measurement, about."""
DIRECT = 2**18
"""Pixels of a batch (B H W) up to which its size is measured at once; before a larger one, a small one is."""
BOLD = 0.75
"""Share of the available memory that a large batch may be expected to take, to be measured anyway."""
BUSY = 0.5
"""Load per CPU above which times are unreliable."""
LONGEST = 30
"""Times the seconds of a measurement that a large one may be expected to take."""

Found = dict[str, Any]
Measuring = Generator[Event, None, Found]


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


def plan_run(
    workspace: Workspace,
    run: Run,
    effective: EffectiveSettings,
    *,
    limits: Limits | None = None,
    seconds: float = SECONDS,
) -> Generator[Event, None, Plan]:
    """Plan the rest of a run. Use as `yield from`; nothing stays in the workspace.

    Args:
        workspace: of the run.
        run: existing or not.
        effective: its settings.
        limits: memory and disk to plan for; unset: what this machine has free.
        seconds: to spend on each of the measurements, about.

    Raises:
        UsageError: the dataset's sizes are not known, or the run is an imported set.
        TeslaError: a measurement failed.
    """
    begun = time.monotonic()
    limits = limits or Limits()
    check_distils(workspace, run, effective.settings)
    if run.exists:
        run.check(effective)
    settings = effective.settings
    method_of(settings)  # a plugin that cannot be used says so here, not in a measurement
    device = resolve_device(settings.compute.device)
    facts = find_facts(settings, workspace.dataset_path(settings))
    _check(settings, facts)
    image = (facts.channels, facts.resolution, facts.resolution)
    compiled = settings.needs_teachers and matching_compiles(settings, image, facts.classes)
    teachers_left = _teachers_left(workspace, settings, facts) if settings.needs_teachers else 0
    iterations = max(0, settings.distill.iterations - max(run.checkpoints(), default=0))
    free = free_memory(device)
    available = _available(device.type, free)
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cpus:
        words = f"The machine is busy (load {load:.1f} on {cpus} CPUs): measurements are slower than usual."
        yield Notice(level="warning", message=words)
    with _scratch(workspace.folder) as folder:
        bench = _Bench(settings, facts, folder, seconds, total=len(_evaluated(settings, facts)) + 4)
        teachers: Found | None = None
        if teachers_left:
            teachers = yield from bench.measure("teachers", "a teacher's batches", images=facts.train)
        trained_on = facts.train if settings.traits.all_images else facts.classes * settings.distill.ipc
        evaluations = yield from _evaluations(bench, trained_on)
        if settings.needs_teachers:
            resolved = changed(settings, "compute", compile="on" if compiled else "off")
            measured = yield from _matching(replace(bench, settings=resolved), available)
        else:
            measured = [(yield from _peer(bench, available))]
    matching = measured[-1]
    problem = Problem(settings, facts, device.type, matching["parameters"], 0)
    room_for, networks, scale = limits.memory if limits.memory else free, list(evaluations.values()), 1.0
    if settings.needs_teachers:
        scale = problem.batch / matching["batch"]
        problem = replace(problem, graph_bytes=int(matching["graph_bytes"] * scale))
        parts = memory_parts(problem, measured, teachers, networks, room_for)
    else:
        problem = replace(problem, state_bytes=matching["state_bytes"])
        parts = peer_parts(problem, matching, networks, room_for)
    kinds: dict[Where, int] = {"device": available if limits.memory is None else limits.memory}
    if device.type != "cpu":
        kinds["host"] = psutil.virtual_memory().available
    most = peaks(parts, kinds)
    uses = disk_uses(problem, teachers_left, bytes_in(run.folder / "checkpoints"))
    room = _room(workspace, uses, limits.disk)
    spent = durations(problem, matching, scale, teachers, evaluations, (teachers_left, iterations))
    each, step, _ = iteration_seconds(problem, matching, scale)
    return Plan(
        run=run.name,
        ipc=settings.distill.ipc,
        dataset=settings.dataset.path or settings.dataset.name,
        origin=facts.origin,
        images=problem.images,
        parameters=problem.parameters,
        device=str(device),
        compiled=compiled,
        store=kept_vectors(problem, settings.distill.store, settings.distill.steps)[0]
        if settings.needs_teachers
        else "",
        seconds_per_step=step,
        seconds_per_iteration=each,
        iterations_left=iterations,
        teachers_left=teachers_left,
        memory=tuple(parts),
        peaks=tuple(most),
        disk=tuple(uses),
        room=tuple(room),
        time=tuple(spent),
        seconds=sum(duration.seconds for duration in spent),
        measuring_seconds=time.monotonic() - begun,
        shortages=tuple(shortages(problem, parts, most, room, uses)),
    )


def _matching(bench: _Bench, available: int) -> Generator[Event, None, list[Found]]:
    """Measure matching steps at the run's batch where that is safe and short, else at two smaller ones."""
    settings, facts = bench.settings, bench.facts
    images = facts.classes * settings.distill.ipc
    wanted = settings.distill.batch
    batch = images if wanted == "full" else min(wanted, images)
    pixels = facts.resolution**2
    probes: list[Found] = []
    step = 0.0
    if batch * pixels > DIRECT:
        for small in (max(1, DIRECT // 4 // pixels), max(2, DIRECT // pixels)):
            found = yield from bench.measure(
                "matching", f"a step of {small} images", changed(settings, "distill", batch=small),
                ipc=_ipc(facts, small), step=0.0, probe=True,
            )  # fmt: skip
            probes.append({**found, "batch": small})
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


def _evaluations(bench: _Bench, images: int) -> Generator[Event, None, dict[str, Found]]:
    """Measure every network that will be evaluated."""
    found: dict[str, Found] = {}
    for name in _evaluated(bench.settings, bench.facts):
        found[name] = yield from bench.measure("evaluation", f"evaluation of {name}", images=images, network=name)
    return found


def _evaluated(settings: Settings, facts: Facts) -> list[str]:
    """Every network that is evaluated."""
    own = settings.network.name
    return list(dict.fromkeys([*([own] if facts.holdout else []), *(settings.evaluate.networks or (own,))]))


def _check(settings: Settings, facts: Facts) -> None:
    """Settings that the sizes prove wrong."""
    if settings.needs_teachers and settings.teachers.batch > facts.train:
        raise UsageError(
            f"teachers.batch = {settings.teachers.batch} is more than the {facts.train} training images.",
            "Set a smaller teachers.batch.",
        )
    if settings.distill.ipc * facts.classes > facts.train and settings.distill.init != "noise":
        raise UsageError(
            f"distill.ipc = {settings.distill.ipc} needs more images than the {facts.train} there are.",
            "Set a smaller --ipc.",
        )


def _teachers_left(workspace: Workspace, settings: Settings, facts: Facts) -> int:
    """Trajectories that the workspace does not have yet."""
    count = settings.teachers.count
    if facts.dataset is None:
        return count
    identity = workspace.buffer_identity(settings, facts.dataset)
    buffer = TeacherBuffer(workspace.buffer_folder(settings, identity), identity)
    return sum(buffer.epochs(trajectory) < settings.trained_epochs for trajectory in range(count))


def _available(device: str, free: int) -> int:
    """Memory a run could have: on a CPU also what the system holds as a cache of files."""
    return psutil.virtual_memory().available if device == "cpu" else free


def _room(workspace: Workspace, uses: list[DiskUse], limit: int | None) -> list[DiskRoom]:
    """What each file system must take, and has free."""
    places = {"workspace": workspace.folder, "cache": cache_root()}
    by_disk: dict[int, DiskRoom] = {}
    for use in uses:
        place = places[use.place]
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        number = there.stat().st_dev
        free = limit if limit is not None else disk.free(there) or 0
        before = by_disk.get(number)
        by_disk[number] = DiskRoom(
            before.place if before else str(place), use.bytes + (before.bytes if before else 0), free
        )
    return list(by_disk.values())


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for the measurements' files on the workspace's disk; always removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{temp_name('.plan')}-", dir=folder) as name:
        yield Path(name)

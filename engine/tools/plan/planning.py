"""A plan: what a run will take, scaled up from short measurements of it."""

import os
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from engine.data import free_memory
from engine.errors import UsageError
from engine.events import Event, Notice, Progress, with_progress
from engine.methods.registry import method_of
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.device import resolve_device
from engine.runtime.disk_space import bytes_in
from engine.runtime.subprocesses import run_isolated
from engine.session.open_task import check_distils
from engine.settings import EffectiveSettings, Settings
from engine.storage.temp_files import scratch_folder
from engine.tools.plan.calculate import EFFICIENCY, calculate, check_calculable
from engine.tools.plan.disk import disk_room, disk_uses
from engine.tools.plan.durations import durations, iteration_seconds
from engine.tools.plan.facts import Facts, find_facts
from engine.tools.plan.fitting import peaks, shortages
from engine.tools.plan.growing import busy
from engine.tools.plan.machines import Machine
from engine.tools.plan.measurements import STAGE, Measured, evaluated, take_measurements
from engine.tools.plan.memory import memory_parts
from engine.tools.plan.peers import peer_parts
from engine.tools.plan.problem import Found, Problem, kept_vectors, views_of
from engine.tools.plan.report import Limits, Plan, Where
from engine.training.compile_policy import matching_compiles
from engine.training.real_images import starts_from_real
from engine.training.teacher_buffer import TeacherBuffer

SECONDS = 4.0
"""Spent on each measurement, about."""
BUDGET = 45.0
"""Spent on all of them together, at most: on a machine without other work."""
PATIENCE = 4.0
"""Times as long on a busy one, at most."""
BUSY = 0.5
"""Load per CPU above which times are unreliable."""


@dataclass(frozen=True)
class _Known:
    """What is known of a run before anything is measured."""

    settings: Settings
    facts: Facts
    device: torch.device
    compiled: bool
    """Whether its matching steps are."""
    teachers_left: int
    iterations: int
    """Left to do."""
    free: int
    """Bytes of the device that are free."""
    machine: Machine | None
    """One that is not there, to calculate for."""


def plan_run(
    workspace: Workspace,
    run: Run,
    effective: EffectiveSettings,
    *,
    limits: Limits | None = None,
    seconds: float = SECONDS,
    budget: float | None = None,
    machine: Machine | None = None,
) -> Generator[Event, None, Plan]:
    """Plan the rest of a run. Use as `yield from`; nothing stays in the workspace.

    Args:
        workspace: of the run.
        run: existing or not.
        effective: its settings.
        limits: memory and disk to plan for; unset: what this machine has free.
        seconds: to spend on each of the measurements, about.
        budget: seconds that all of them may take together; unset: 45, and more on a busy machine.
        machine: calculate for it, and measure nothing; unset: this machine.

    Raises:
        UsageError: the dataset's sizes are not known, the run is an imported set, or it cannot be calculated.
        TeslaError: a measurement failed.
    """
    begun = time.monotonic()
    check_distils(workspace, run, effective.settings)
    if run.exists:
        run.check(effective)
    if machine is not None:
        check_calculable(effective.settings)
    known = _look_up(workspace, run, effective.settings, machine)
    found = yield from (
        _measured(workspace, known, seconds, budget) if machine is None else _calculated(known, machine)
    )
    return _added_up(workspace, run, known, found, limits or Limits(), time.monotonic() - begun)


def _measured(
    workspace: Workspace, known: _Known, seconds: float, budget: float | None
) -> Generator[Event, None, Measured]:
    """Measure on this machine, with a word if it is busy."""
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cpus:
        words = f"The machine is busy (load {load:.1f} on {cpus} CPUs). "
        if known.device.type == "cpu":
            words += "Times are what a run would need of a quiet machine; this one would take longer now"
            words += "." if known.settings.compute.threads == 1 else ", least with --set compute.threads=1."
        yield Notice(level="warning", message=words.strip())
    return (
        yield from take_measurements(
            workspace.folder,
            known.settings,
            known.facts,
            teachers_left=known.teachers_left,
            compiled=known.compiled,
            available=known.free,
            seconds=seconds,
            budget=budget or BUDGET * min(PATIENCE, busy()),
        )
    )


def _calculated(known: _Known, machine: Machine) -> Generator[Event, None, Measured]:
    """Calculate for a machine that is not there, from the shapes of the run."""
    with scratch_folder(Path(tempfile.gettempdir()), "tesla-plan") as folder:
        arguments = {
            "settings": known.settings.model_dump_json(), "shape": known.facts.shape, "train": known.facts.train,
            "networks": evaluated(known.settings, known.facts), "folder": str(folder),
        }  # fmt: skip
        waiting = run_isolated("engine.tools.plan.measure_shapes:shapes", arguments)
        at = Progress(stage=STAGE, done=0, total=1, unit="calculations")
        shapes = yield from with_progress(waiting, at, "operations and sizes")
    return calculate(machine, known.settings, shapes, teachers=known.teachers_left > 0)


def _look_up(workspace: Workspace, run: Run, settings: Settings, machine: Machine | None) -> _Known:
    """Find out what needs no measurement.

    Raises:
        UsageError: the dataset's sizes are not known, or prove the settings wrong.
    """
    method_of(settings)  # a plugin that cannot be used says so here, not in a measurement
    device = resolve_device(settings.compute.device) if machine is None else torch.device(machine.kind)
    facts = find_facts(settings, workspace.data_request(settings))
    _check(settings, facts)
    image = (facts.channels, facts.resolution, facts.resolution)
    compiled = settings.needs_teachers and matching_compiles(settings, image, facts.classes)
    free = machine.memory if machine else free_memory(device)
    return _Known(
        settings=settings,
        facts=facts,
        device=device,
        compiled=compiled,
        teachers_left=_teachers_left(workspace, settings, facts) if settings.needs_teachers else 0,
        iterations=max(0, settings.distill.iterations - max(run.checkpoints(), default=0)),
        free=free,
        machine=machine,
    )


def _added_up(workspace: Workspace, run: Run, known: _Known, found: Measured, limits: Limits, measuring: float) -> Plan:
    """The plan that the measurements make; they took `measuring` seconds."""
    settings, matching = known.settings, found.matching[-1]
    problem, scale = _problem(known, matching)
    room_for, networks = limits.memory if limits.memory else known.free, list(found.evaluations.values())
    if settings.needs_teachers:
        parts = memory_parts(problem, found.matching, found.teachers, networks, room_for)
    else:
        parts = peer_parts(problem, matching, networks, room_for)
    kinds: dict[Where, int] = {"device": known.free if limits.memory is None else limits.memory}
    if known.device.type != "cpu" and known.machine is None:
        kinds["host"] = psutil.virtual_memory().available
    most = peaks(parts, kinds)
    uses = disk_uses(problem, known.teachers_left, bytes_in(run.folder / "checkpoints"))
    # The disk of another machine is not known.
    room = disk_room(workspace.folder, uses, limits.disk) if known.machine is None or limits.disk else []
    left = (known.teachers_left, known.iterations)
    spent = durations(problem, matching, scale, found.teachers, found.evaluations, left)
    each, step, _ = iteration_seconds(problem, matching, scale)
    return Plan(
        run=run.name,
        ipc=settings.distill.ipc,
        dataset=settings.dataset.path or settings.dataset.name,
        origin=known.facts.origin,
        images=problem.images,
        views=problem.views,
        parameters=problem.parameters,
        device=known.machine.title if known.machine else str(known.device),
        calculated=_calculated_words(matching, known.machine),
        compiled=matching["compiled"],
        store=kept_vectors(problem, settings.distill.store, settings.distill.steps)[0],
        seconds_per_step=step,
        seconds_per_iteration=each,
        iterations_left=known.iterations,
        teachers_left=known.teachers_left,
        memory=tuple(parts),
        peaks=tuple(most),
        disk=tuple(uses),
        room=tuple(room),
        time=tuple(spent),
        seconds=sum(duration.seconds for duration in spent),
        measuring_seconds=measuring,
        shortages=tuple(shortages(problem, parts, most, room, uses)),
    )


def _calculated_words(matching: Found, machine: Machine | None) -> str:
    """What a plan for another machine is calculated from; empty for this one."""
    if machine is None:
        return ""
    return (
        f"C{matching['basis'][1:]} ({machine.source}), efficiency {EFFICIENCY['compiled']:.0%} compiled and "
        f"{EFFICIENCY['eager']:.0%} eager, as one H200 reached with PyTorch 2.11 (see `docs/planning.md`). Nothing was "
        "measured: on another machine, times may be off by half or more."
    )


def _problem(known: _Known, matching: Found) -> tuple[Problem, float]:
    """The run in numbers, and its batch over the measured one."""
    problem = Problem(known.settings, known.facts, known.device.type, matching["parameters"], 0)
    if not known.settings.needs_teachers:
        return replace(problem, state_bytes=matching["state_bytes"]), 1.0
    scale = problem.batch / matching["batch"]
    return replace(problem, graph_bytes=int(matching["graph_bytes"])), scale


def _check(settings: Settings, facts: Facts) -> None:
    """Settings that the sizes prove wrong."""
    views = views_of(settings, facts.channels, facts.resolution)
    if settings.distill.ipc * views * facts.classes > facts.train and (
        starts_from_real(settings) or settings.evaluate.baseline
    ):
        each = f", {views} images in each (distill.formation)," if views > 1 else ""
        raise UsageError(
            f"distill.ipc = {settings.distill.ipc}{each} needs more images than the {facts.train} there are.",
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

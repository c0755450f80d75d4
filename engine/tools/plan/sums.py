"""Arithmetic: small measurements, scaled up to the run. Pure functions of settings, sizes and measurements."""

from dataclasses import dataclass
from typing import Any

import torch

from engine.data import resident_bytes
from engine.data.resident import SHARE
from engine.matching.checkpoints import CheckpointTrace
from engine.matching.parameter_store import Store, resolve_store
from engine.methods.tesla_labels import MOST_SHIP
from engine.runs.preview_frames import MOST_BYTES, MOST_FRAMES, images_shown
from engine.runtime.disk_space import SAVED_BESIDES, buffer_bytes, checkpoints_bytes, trajectory_bytes
from engine.settings import Settings
from engine.storage.filesystem import format_bytes
from engine.tools.plan.facts import Facts
from engine.tools.plan.report import DiskUse, Duration, How, Part, Where

FIRST_ORDER = 0.25
"""A replayed step's share of a whole one: 3F of 12F (see docs/gradient.md)."""

SOFT = ("target", "last")
"""Kinds of labels that teachers assign in every iteration."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A run in numbers."""

    settings: Settings
    facts: Facts
    device: str
    """Type of the device."""
    parameters: int
    """P."""
    graph_bytes: int
    """Of one first-order graph over a whole batch; 0 for methods that match no trajectories."""
    state_bytes: int = 0
    """Of a checkpoint, where that is measured."""

    @property
    def images(self) -> int:
        """N."""
        return self.facts.classes * self.settings.distill.ipc

    @property
    def batch(self) -> int:
        """B."""
        size = self.settings.distill.batch
        return self.images if size == "full" else min(size, self.images)

    @property
    def element(self) -> int:
        """Bytes of a number."""
        return 8 if self.settings.compute.dtype == "float64" else 4

    @property
    def image_bytes(self) -> int:
        """Bytes of all synthetic images, N C H W numbers."""
        return self.images * self.facts.values * self.element

    @property
    def label_bytes(self) -> int:
        """Bytes of all labels, N K numbers."""
        return self.images * self.facts.classes * self.element

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint: as measured; else images and their velocity, and the same of learned labels."""
        if self.state_bytes:
            return self.state_bytes
        learned = 2 * self.label_bytes if self.settings.labels.kind == "learned" else 0
        return 2 * self.image_bytes + learned

    @property
    def soft(self) -> bool:
        """Whether teachers assign the labels in every iteration."""
        return self.settings.needs_teachers and self.settings.labels.kind in SOFT

    @property
    def trained_on(self) -> int:
        """Images that evaluated networks are trained on."""
        return self.facts.train if self.settings.traits.all_images else self.images


def epochs_of(settings: Settings) -> int:
    """Epochs of an evaluation of the run's own set."""
    return settings.evaluate.whole_epochs if settings.traits.all_images else settings.evaluate.epochs


def kept_vectors(problem: Problem, store: Store, steps: int) -> tuple[str, int]:
    """Where the student's parameters are kept over `steps` steps, and how many vectors; empty for none."""
    if problem.settings.distill.gradient != "exact":
        return "", 0
    return resolve_store(
        store, steps, problem.parameters * problem.element, problem.graph_bytes, problem.device
    )  # fmt: skip


def used_bytes(problem: Problem, found: Found) -> int:
    """Bytes of the device that a measured stage took."""
    return int(found["host"] if problem.device == "cpu" else found["device"])


def step_bytes(problem: Problem, matching: list[Found]) -> int:
    """Bytes that one matching step takes besides what is carried from step to step.

    From one measurement at the run's batch; or from two at smaller ones, `batch`, by the line through them.
    """
    wanted = problem.settings.distill
    vector = problem.parameters * problem.element
    sizes: list[int] = []
    for found in matching:
        vectors = kept_vectors(problem, wanted.store, found["steps"])[1]
        if problem.settings.distill.gradient == "exact" and found["steps"] < wanted.steps:
            vectors = found["steps"] - 1  # measured with store = device
        held = found["images"] * (problem.facts.values + 2 * problem.facts.classes) * problem.element
        sizes.append(int(max(0, used_bytes(problem, found) - held - vectors * vector)))
    size = sizes[-1]
    if len(sizes) > 1:
        small, large = matching[0]["batch"], matching[1]["batch"]
        each = max(0.0, (sizes[1] - sizes[0]) / (large - small))
        size += int(each * (problem.batch - large))
    if wanted.gradient == "unrolled":
        size = int(size * wanted.steps / matching[-1]["steps"])
    return size


def memory_parts(
    problem: Problem, matching: list[Found], teachers: Found | None, evaluations: list[Found], free: int
) -> list[Part]:
    """Every use of memory.

    Args:
        problem: the run.
        matching: measured; see `step_bytes`.
        teachers: measured; None if none are left to train.
        evaluations: measured.
        free: bytes free on the device, of which the dataset may take a share.
    """
    settings, facts = problem.settings, problem.facts
    cpu = problem.device == "cpu"
    exact: How = "measured" if len(matching) == 1 else "extrapolated"
    first = matching[0]
    small = facts.classes * facts.values  # the random pixels of the measured task
    base = first["base"] - (first["state_bytes"] + 2 * small if cpu else 0)
    program: Where = "device" if cpu else "host"
    parts = [
        Part("Python, PyTorch, the program", max(0, base), program, "always", "measured"),
        *dataset_parts(problem, free),
        Part("synthetic images", problem.image_bytes, "device", "distillation", "computed", between=True),
        Part("their momentum", problem.image_bytes, "device", "distillation", "computed", between=True),
        Part("their gradient", problem.image_bytes, "device", "distillation", "computed", between=True),
    ]  # fmt: skip
    tables = 4 if settings.labels.kind == "learned" else 2
    parts.append(
        Part(
            "labels and their gradient",
            tables * problem.label_bytes,
            "device",
            "distillation",
            "computed",
            between=True,
        )
    )
    store, vectors = kept_vectors(problem, settings.distill.store, settings.distill.steps)
    vector = problem.parameters * problem.element
    if store == "host" and not cpu:
        parts.append(Part("student parameters, pinned", vectors * vector, "host", "distillation", "computed"))
        vectors = 2
    if store:
        parts.append(Part(f"student parameters ({store})", vectors * vector, "device", "distillation", "computed"))
    parts.append(Part("one step's graph and scratch", step_bytes(problem, matching), "device", "distillation", exact))
    if teachers is not None:
        parts.append(Part("a teacher and its batch", used_bytes(problem, teachers), "device", "teachers", "measured"))
    parts.append(evaluation_part(problem, evaluations))
    return parts


def dataset_parts(problem: Problem, free: int) -> list[Part]:
    """The dataset in memory; see `memory_parts`."""
    program: Where = "device" if problem.device == "cpu" else "host"
    return [
        Part("dataset, kept as bytes", _resident(problem, free), "device", "always", "computed"),
        Part("its file, mapped (given back when needed)", _mapped(problem, free), program, "always", "computed"),
    ]


def evaluation_part(problem: Problem, evaluations: list[Found]) -> Part:
    """The largest of the evaluated networks, with its batch."""
    most = max(used_bytes(problem, found) for found in evaluations)
    return Part("evaluated networks and their batches", most, "device", "evaluation", "measured")


def _resident(problem: Problem, free: int) -> int:
    """Bytes of the dataset that stay in memory, by the rule of ResidentImages for one split after the other."""
    return sum(_splits(problem, free))


def _mapped(problem: Problem, free: int) -> int:
    """Bytes of the dataset's files that are read on the way, and count as the process's."""
    facts = problem.facts
    counts = (facts.train, facts.holdout, facts.test)
    kept = _splits(problem, free)
    return sum(count * facts.values for count, size in zip(counts, kept, strict=True) if size)


def _splits(problem: Problem, free: int) -> list[int]:
    facts = problem.facts
    kept: list[int] = []
    for count in (facts.train, facts.holdout, facts.test):
        whitened = problem.element if problem.settings.dataset.zca else 0
        budget = int(SHARE * max(0, free - sum(kept)))
        kept.append(resident_bytes(count * facts.values, budget, whitened))
    return kept


def disk_uses(problem: Problem, teachers_left: int, saved: int) -> list[DiskUse]:
    """Files still to be written.

    Args:
        problem: the run.
        teachers_left: trajectories to train.
        saved: bytes of checkpoints the run has on disk.
    """
    settings, facts = problem.settings, problem.facts
    rows = settings.trained_epochs + 1
    trajectory = trajectory_bytes(settings.trained_epochs, problem.parameters)
    kept = settings.distill.keep + SAVED_BESIDES
    shown = images_shown(facts.classes, settings.distill.ipc, facts.resolution)
    frame = facts.classes * shown * facts.values
    making = f"{teachers_left} trajectories of {rows} snapshots, and one being written"
    uses = [
        DiskUse("checkpoints", checkpoints_bytes(settings.distill.keep, problem.checkpoint_bytes, saved), "workspace",
                f"{kept} of {format_bytes(problem.checkpoint_bytes)}: distill.keep, first, best, one being written"),
        DiskUse("previews", min(MOST_BYTES, MOST_FRAMES * frame), "workspace", "at most"),
    ]  # fmt: skip
    if settings.needs_teachers:
        note = making if teachers_left else "none left to train"
        uses.insert(0, DiskUse("teacher buffer", buffer_bytes(teachers_left, trajectory), "workspace", note))
    if facts.dataset is None:
        size = facts.images * (facts.values + 8)
        uses.append(DiskUse("decoded dataset", size, "cache", "plus the download"))
    return uses


def iteration_seconds(problem: Problem, matching: Found, scale: float) -> tuple[float, float, How]:
    """Seconds of an iteration, of one matching step, and whether they were measured at the run's own size.

    A method that matches no trajectories has no such steps: 0.
    """
    if not problem.settings.needs_teachers:
        return matching["seconds"], 0.0, "measured" if matching["whole"] else "extrapolated"
    distill = problem.settings.distill
    labels = matching["label_seconds"] * matching["images"] if problem.soft else 0.0
    small = min(problem.batch, matching["images"]) if scale == 1 else round(problem.batch / scale)
    done = images_stepped(matching["steps"], matching["images"], small)
    wanted = images_stepped(distill.steps, problem.images, problem.batch)
    seconds = max(0.0, matching["seconds"] - labels) * wanted / done
    store, vectors = kept_vectors(problem, distill.store, distill.steps)
    if store == "checkpoint" and matching["steps"] < distill.steps:
        seconds *= 1 + FIRST_ORDER * replays(distill.steps, vectors) / distill.steps
    step = seconds / distill.steps
    if problem.soft:
        seconds += matching["label_seconds"] * problem.images
    whole = matching["steps"] == distill.steps and matching["images"] == problem.images and scale == 1
    return seconds, step, "measured" if whole else "extrapolated"


def images_stepped(steps: int, images: int, batch: int) -> int:
    """Images that `steps` batches hold: permutations of all images in chunks, the last one of each may be short."""
    chunks = [min(batch, images - begin) for begin in range(0, images, batch)]
    whole, left = divmod(steps, len(chunks))
    return whole * images + sum(chunks[:left])


def replays(steps: int, slots: int) -> int:
    """Steps that the checkpoint store takes twice or more often."""
    trace, nothing = CheckpointTrace(steps, slots), torch.empty(0)
    for step in range(steps):
        trace.put(step, nothing)
    return sum(theta is None for _, theta in trace.backward(lambda theta, _: theta))


def durations(
    problem: Problem,
    matching: Found,
    scale: float,
    teachers: Found | None,
    evaluations: dict[str, Found],
    left: tuple[int, int],
) -> list[Duration]:
    """Time of every stage.

    Args:
        problem: the run.
        matching: measured.
        scale: the run's batch over the measured one.
        teachers: measured; None if none are left to train.
        evaluations: measured, by network.
        left: teachers to train, iterations to do.
    """
    settings, facts = problem.settings, problem.facts
    teachers_left, iterations = left
    found: list[Duration] = []
    if teachers is not None:
        epoch = facts.train * teachers["seconds_per_image"] + teachers["snapshot_seconds"]
        found.append(
            Duration("teachers", teachers_left * settings.trained_epochs * epoch, "extrapolated",
                     f"{teachers_left} x {settings.trained_epochs} epochs of {span(epoch)} "
                     f"({1 / teachers['seconds_per_image']:,.0f} images/s)")
        )  # fmt: skip
    seconds, _, _ = iteration_seconds(problem, matching, scale)
    compiling = sum(part["compiling"] for part in (matching, teachers or {"compiling": 0.0}, *evaluations.values()))
    if compiling:
        found.append(Duration("compilation", compiling, "measured", "less once its cache is warm"))
    if settings.traits.iterates:
        note = f"{iterations:,} iterations of {span(seconds)}"
        found.append(Duration("distillation", iterations * seconds, "extrapolated", note))
    else:
        found.append(Duration("choosing the images", matching["first_seconds"], "extrapolated"))
    done = settings.distill.iterations - iterations
    measured_at = [
        i for i in range(done, settings.distill.iterations + 1)
        if i % settings.evaluate.every == 0 or i == settings.distill.iterations
    ]  # fmt: skip
    saves = {i for i in range(done, settings.distill.iterations + 1) if i % settings.distill.checkpoint_every == 0}
    saves |= set(measured_at)
    save = matching["save_seconds"] + max(0, problem.checkpoint_bytes - matching["state_bytes"]) / matching["save_rate"]
    found.append(Duration("checkpoints", len(saves) * save, "extrapolated", f"{len(saves)} of {span(save)}"))
    shipped = _shipped_seconds(problem, matching)
    if facts.holdout and measured_at and settings.traits.iterates:  # a single state is not selected
        one = _evaluation_seconds(problem, evaluations[settings.network.name], facts.holdout)
        one *= settings.evaluate.selection_repeats
        count = len(measured_at) + (1 if settings.evaluate.baseline and done == 0 else 0)
        found.append(
            Duration("evaluations that select", count * one + len(measured_at) * shipped, "extrapolated",
                     f"{count} of {span(one)}" + (f", and {span(shipped)} of labels" if shipped else ""))
        )  # fmt: skip
    networks = settings.evaluate.networks or (settings.network.name,)
    repeats = settings.evaluate.repeats
    tests = [repeats * _evaluation_seconds(problem, evaluations[name], facts.test) for name in networks]
    total, count = sum(tests), len(tests)
    if settings.evaluate.baseline:
        total += sum(repeats * _evaluation_seconds(problem, evaluations[n], facts.test, random=True) for n in networks)
        count *= 2
    note = f"{count} of {repeats} networks, {span(tests[0])}"
    found.append(Duration("test", total + shipped, "extrapolated", note))
    return found


def _evaluation_seconds(problem: Problem, found: Found, measured: int, *, random: bool = False) -> float:
    """Seconds of one network, trained on the run's set or on random real images at its IPC."""
    images = problem.images if random else problem.trained_on
    epochs = problem.settings.evaluate.epochs if random else epochs_of(problem.settings)
    training = epochs * found["seconds_per_epoch"] * images / found["images"]
    return float(training + measured * found["seconds_per_measured"] + found["seconds_besides"])


def _shipped_seconds(problem: Problem, matching: Found) -> float:
    """Seconds to assign the exported labels, which every evaluation does."""
    settings = problem.settings
    if not problem.soft:
        return 0.0
    epochs = 1 if settings.labels.kind == "last" else len(settings.target_epochs)
    snapshots = 1 if settings.labels.ship == "last-iteration" else min(MOST_SHIP, epochs * settings.teachers.count)
    return float(snapshots * problem.images * matching["label_seconds"])


def span(seconds: float) -> str:
    """A time for people: 0.25 s, 12 s, 3.4 min, 2.1 h, 8.5 d."""
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if seconds < 10 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:,.0f} d"

"""The time a run takes: measured pieces, scaled up. Pure functions."""

import torch

from engine.matching.checkpoints import CheckpointTrace
from engine.methods.tesla_labels import MOST_SHIP
from engine.settings import Settings
from engine.tools.plan.problem import Found, Problem, epochs_of, kept_vectors
from engine.tools.plan.report import Duration, How

FIRST_ORDER = 0.25
"""A replayed step's share of a whole one: 3F of 12F (see docs/gradient.md)."""


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
    teachers_left, iterations = left
    found: list[Duration] = []
    if teachers is not None:
        found.append(_teachers(problem, teachers, teachers_left))
    compiling = sum(part["compiling"] for part in (matching, teachers or {"compiling": 0.0}, *evaluations.values()))
    if compiling:
        found.append(Duration("compilation", compiling, "measured", "less once its cache is warm"))
    found.append(_distillation(problem, matching, scale, iterations))
    done = problem.settings.distill.iterations - iterations
    evaluated = _evaluated_at(problem.settings, done)
    found.append(_checkpoints(problem, matching, done, evaluated))
    shipped = _shipped_seconds(problem, matching)
    if problem.facts.holdout and evaluated and problem.settings.traits.iterates:  # a single state is not selected
        baseline = problem.settings.evaluate.baseline and done == 0
        found.append(_selection(problem, evaluations, len(evaluated), shipped, baseline=baseline))
    found.append(_test(problem, evaluations, shipped))
    return found


def _teachers(problem: Problem, teachers: Found, count: int) -> Duration:
    epochs = problem.settings.trained_epochs
    epoch = problem.facts.train * teachers["seconds_per_image"] + teachers["snapshot_seconds"]
    note = f"{count} x {epochs} epochs of {span(epoch)} ({1 / teachers['seconds_per_image']:,.0f} images/s)"
    return Duration("teachers", count * epochs * epoch, "extrapolated", note)


def _distillation(problem: Problem, matching: Found, scale: float, iterations: int) -> Duration:
    if not problem.settings.traits.iterates:
        return Duration("choosing the images", matching["first_seconds"], "extrapolated")
    seconds, _, _ = iteration_seconds(problem, matching, scale)
    note = f"{iterations:,} iterations of {span(seconds)}"
    return Duration("distillation", iterations * seconds, "extrapolated", note)


def _evaluated_at(settings: Settings, done: int) -> list[int]:
    """Iterations whose images are evaluated, from the `done` ones on."""
    last = settings.distill.iterations
    return [i for i in range(done, last + 1) if i % settings.evaluate.every == 0 or i == last]


def _checkpoints(problem: Problem, matching: Found, done: int, evaluated: list[int]) -> Duration:
    distill = problem.settings.distill
    saved = {i for i in range(done, distill.iterations + 1) if i % distill.checkpoint_every == 0} | set(evaluated)
    larger = max(0, problem.checkpoint_bytes - matching["state_bytes"])
    save = matching["save_seconds"] + larger / matching["save_rate"]
    return Duration("checkpoints", len(saved) * save, "extrapolated", f"{len(saved)} of {span(save)}")


def _selection(
    problem: Problem, evaluations: dict[str, Found], states: int, shipped: float, *, baseline: bool
) -> Duration:
    """Evaluations of that many states, and of random real images, on the held-out images."""
    settings = problem.settings
    one = _evaluation_seconds(problem, evaluations[settings.network.name], problem.facts.holdout)
    one *= settings.evaluate.selection_repeats
    count = states + (1 if baseline else 0)
    note = f"{count} of {span(one)}" + (f", and {span(shipped)} of labels" if shipped else "")
    return Duration("evaluations that select", count * one + states * shipped, "extrapolated", note)


def _test(problem: Problem, evaluations: dict[str, Found], shipped: float) -> Duration:
    """Every network on the test images, trained on the result and on random real images."""
    settings, measured = problem.settings, problem.facts.test
    networks = settings.evaluate.networks or (settings.network.name,)
    repeats = settings.evaluate.repeats
    tests = [repeats * _evaluation_seconds(problem, evaluations[name], measured) for name in networks]
    total, count = sum(tests), len(tests)
    if settings.evaluate.baseline:
        total += sum(repeats * _evaluation_seconds(problem, evaluations[n], measured, random=True) for n in networks)
        count *= 2
    note = f"{count} of {repeats} networks, {span(tests[0])}"
    return Duration("test", total + shipped, "extrapolated", note)


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


def span(seconds: float) -> str:
    """A time for people: 0.25 s, 12 s, 3.4 min, 2.1 h, 8.5 d."""
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if seconds < 10 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:,.0f} d"

"""The time a run takes: measured pieces, scaled up. Pure functions."""

from collections.abc import Sequence

import torch

from engine.data.whitening import whitening_bytes, whitening_seconds
from engine.matching.checkpoints import CheckpointTrace
from engine.methods.tesla_labels import MOST_SHIP
from engine.runs.protocol import tunes_network
from engine.settings import Settings
from engine.storage.filesystem import format_bytes
from engine.tools.plan.problem import Found, Problem, epochs_of, kept_vectors, step_note, step_units
from engine.tools.plan.report import Duration, How
from engine.training.evaluation import RATES

MATCHING_SHARE, TRAINING_SHARE = 0.36, 0.54
"""Time of compiled steps over that of eager ones, for those that could not be measured. Found on 2 CPU cores, ConvNets
of width 32 and 128 on 8x8 to 64x64: 0.27 to 0.53 of a matching step, 0.48 to 0.6 of a training step."""
CUDA_SHARE = 0.4
"""The same on CUDA, where most of the gain is in launching less (an H200: 0.1 to 0.55)."""
UNSEEN = "compiled steps taken as {share:g} of eager ones ({bound})"

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
    found = _whitening(problem)
    if teachers is not None:
        found.append(_teachers(problem, teachers, teachers_left))
    found += _compilation(matching, teachers, evaluations)
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


def _whitening(problem: Problem) -> list[Duration]:
    """Fitting it, once for a dataset."""
    facts = problem.facts
    if not problem.settings.dataset.zca or facts.whitened:
        return []
    needed = format_bytes(whitening_bytes(facts.train, facts.values))
    note = f"once; {facts.values:,} numbers an image, {needed} of memory meanwhile (time ± half)"
    return [Duration("fitting the whitening", whitening_seconds(facts.train, facts.values), "computed", note)]


def _compilation(matching: Found, teachers: Found | None, evaluations: dict[str, Found]) -> list[Duration]:
    """All compiling together, once in a run; nothing where nothing is compiled."""
    parts = [part for part in (matching, teachers, *evaluations.values()) if part and part.get("compiled")]
    if not parts:
        return []
    seconds = sum(part["compiling"] for part in parts)
    if matching.get("basis"):
        return [Duration("compilation", seconds, "computed", "without a compiler's cache; as long as on an H200")]
    seen = all(part["seen"] for part in parts)
    if seen:
        return [Duration("compilation", seconds, "measured", "with what the compiler's cache has now")]
    if seconds:
        return [Duration("compilation", seconds, "computed", "not in the compiler's cache; up to twice as long")]
    return [Duration("compilation", 0.0, "computed", "in the compiler's cache")]


def share_of(problem: Problem, found: Found, usual: float) -> float:
    """What a run's steps take of the measured ones: less where the run compiles and the measurement could not."""
    if not found.get("compiled") or found["seen"]:
        return 1.0
    return usual if problem.device == "cpu" else CUDA_SHARE


def _words(problem: Problem, found: Found, usual: float) -> str:
    """How far to trust a stage's time; starts with a semicolon."""
    share = share_of(problem, found, usual)
    size, whole = found["size"] if "size" in found else found["batch"], found["whole"]
    notes = [
        step_note(size, whole),
        UNSEEN.format(share=share, bound="± 40 %" if problem.device == "cpu" else "0.1 to 0.55") if share != 1 else "",
    ]
    return "".join(f"; {note}" for note in notes if note)


def _teachers(problem: Problem, teachers: Found, count: int) -> Duration:
    epochs = problem.settings.trained_epochs
    image = teachers["seconds_per_image"] * share_of(problem, teachers, TRAINING_SHARE)
    epoch = problem.facts.train * image + teachers["snapshot_seconds"]
    note = f"{count} x {epochs} epochs of {span(epoch)} ({1 / image:,.0f} images/s)"
    note += ", two gradients a step" if problem.settings.teachers.kind == "ftd" else ""
    note += _words(problem, teachers, TRAINING_SHARE)
    return Duration("teachers", count * epochs * epoch, how_of(teachers), note)


def how_of(found: Found) -> How:
    """The basis of a stage that is scaled up from a measurement, or from a calculation."""
    return "computed" if found.get("basis") else "extrapolated"


def _distillation(problem: Problem, matching: Found, scale: float, iterations: int) -> Duration:
    if not problem.settings.traits.iterates:
        return Duration("choosing the images", matching["first_seconds"], "extrapolated", _some(matching))
    seconds, _, _ = iteration_seconds(problem, matching, scale)
    note = f"{iterations:,} iterations of {span(seconds)}"
    note += _words(problem, matching, MATCHING_SHARE) if problem.settings.needs_teachers else f"; {_some(matching)}"
    return Duration("distillation", iterations * seconds, how_of(matching), note.removesuffix("; "))


def _some(found: Found) -> str:
    """Of how many classes a method without teachers was measured; empty for all of them."""
    if found["classes"] == found["all_classes"]:
        return "" if found["whole"] else "measured on a share of an iteration (± 20 %)"
    return f"measured on {found['classes']:,} of {found['all_classes']:,} classes (± 30 %)"


def _evaluated_at(settings: Settings, done: int) -> list[int]:
    """Iterations whose images are evaluated, from the `done` ones on."""
    last = settings.distill.iterations
    return [i for i in range(done, last + 1) if i % settings.evaluate.every == 0 or i == last]


def _checkpoints(problem: Problem, matching: Found, done: int, evaluated: list[int]) -> Duration:
    distill = problem.settings.distill
    saved = {i for i in range(done, distill.iterations + 1) if i % distill.checkpoint_every == 0} | set(evaluated)
    larger = max(0, problem.checkpoint_bytes - matching["state_bytes"])
    save = matching["save_seconds"] + larger / matching["save_rate"]
    return Duration("checkpoints", len(saved) * save, how_of(matching), f"{len(saved)} of {span(save)}")


def _selection(
    problem: Problem, evaluations: dict[str, Found], states: int, shipped: float, *, baseline: bool
) -> Duration:
    """Evaluations of that many states, and of random real images, on the held-out images."""
    settings = problem.settings
    own = evaluations[settings.network.name]
    one = _evaluation_seconds(problem, own, problem.facts.holdout)
    one *= settings.evaluate.selection_repeats
    rates = len(RATES) if settings.evaluate.random_lr == "tuned" else 1
    count = states + (rates if baseline else 0)
    note = f"{count} of {span(one)}" + (f", and {span(shipped)} of labels" if shipped else "")
    note += _words(problem, own, TRAINING_SHARE)
    return Duration("evaluations that select", count * one + states * shipped, how_of(own), note)


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
    if problem.facts.holdout and not settings.traits.iterates and settings.evaluate.random_lr == "tuned":
        # Nothing is selected, so random real images are tuned now.
        own = _evaluation_seconds(problem, evaluations[settings.network.name], problem.facts.holdout, random=True)
        subjects = settings.evaluate.baseline + settings.draws_random
        total += subjects * len(RATES) * settings.evaluate.selection_repeats * own
    tuned = _tuning(problem, evaluations, networks)
    total += tuned
    note = f"{count} of {repeats} networks, {span(tests[0])}"
    note += f", and {span(tuned)} to choose rates" if tuned else ""
    note += _words(problem, evaluations[networks[0]], TRAINING_SHARE)
    return Duration("test", total + shipped, how_of(evaluations[networks[0]]), note)


def _tuning(problem: Problem, evaluations: dict[str, Found], networks: Sequence[str]) -> float:
    """Seconds to choose the learning rates of other networks than the teachers'."""
    settings, measured = problem.settings, problem.facts.holdout
    total = 0.0
    for network in networks:
        if tunes_network(settings, "distilled", network):
            found = evaluations[network]
            own = (len(RATES) + (not settings.draws_random)) * _evaluation_seconds(problem, found, measured)
            random = len(RATES) * _evaluation_seconds(problem, found, measured, random=True)
            total += settings.evaluate.selection_repeats * (own + settings.evaluate.baseline * random)
    return total


def _evaluation_seconds(problem: Problem, found: Found, measured: int, *, random: bool = False) -> float:
    """Seconds of one network, trained on the run's set or on random real images at its IPC."""
    images = problem.images * problem.views if random else problem.trained_on
    epochs = problem.settings.evaluate.epochs if random else epochs_of(problem.settings)
    training = epochs * found["seconds_per_epoch"] * images / found["images"]
    training *= share_of(problem, found, TRAINING_SHARE)
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
    small = min(problem.batch, matching["images"] * problem.views) if scale == 1 else round(problem.batch / scale)
    made, images = matching["images"] * problem.views, problem.images * problem.views
    done = images_stepped(matching["steps"], made, small) * per_step(distill.gradient, matching["steps"])
    wanted = images_stepped(distill.steps, images, problem.batch) * per_step(distill.gradient, distill.steps)
    seconds = matching["seconds"] * wanted / done * share_of(problem, matching, MATCHING_SHARE)
    store, vectors = kept_vectors(problem, distill.store, distill.steps)
    if store == "checkpoint" and matching["steps"] < distill.steps:
        seconds *= 1 + FIRST_ORDER * replays(distill.steps, vectors) / distill.steps
    step = seconds / distill.steps
    if problem.soft:
        seconds += matching["label_seconds"] * problem.images
    whole = matching["steps"] == distill.steps and matching["images"] == problem.images and scale == 1
    return seconds, step, "measured" if whole else "extrapolated"


def per_step(gradient: str, steps: int) -> float:
    """Forward passes that a step costs, on the mean over an iteration of that many."""
    return step_units(gradient, steps) / steps


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

"""What measured numbers say, and what they do not: whether networks beat guessing, and whether a set beats another.

Pure functions of numbers in the journal, without PyTorch: commands, screens and reports all say the same.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from engine.events import EvaluationDone, TeachersMeasured
from engine.settings.decoders import random_words

CONFIDENCE = 0.95
"""Of every interval."""
ERRORS = 2.0
"""Standard errors that an accuracy must be above guessing."""
MARGIN = 0.15
"""An accuracy near guessing has gone at most this share of the way from guessing to 1, and at most doubled it."""
PANELS = 256
"""Of Simpson's rule, even; the quantiles have nine correct digits."""
IDLE_LOSS = 0.95
"""A mean matching loss above this: students end hardly nearer to their target than they start, at 1."""
FEWEST_LOSSES = 10
"""Iterations that a mean matching loss is judged by, at least."""
FAR = 10.0
"""Factor from which student_lr is far from its initial value."""
ABOUT = {"teachers", "matching loss", "student_lr", "student_lr bound"}
"""What notices are about that are given once in the life of a run."""
SKIP_RULES = {
    "distill.max_loss": "a larger distill.max_loss, or a smaller distill.student_lr or fewer distill.steps",
    "distill.max_pixel": "a smaller distill.lr_images, or a larger distill.max_pixel",
    "distill.max_jump": "a smaller distill.lr_images, or a larger distill.max_jump",
    "numbers not finite": "a smaller distill.lr_images or distill.student_lr (or fix the network, if it is your own)",
}
"""What an iteration is skipped for, and what to change if all are."""


@dataclass(frozen=True)
class Difference:
    """The difference of two mean accuracies, 0..1, with its confidence interval over networks."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """What distillation gained with one network, against as many random real images."""

    network: str
    kind: str
    """`gained`, `none` (the interval includes 0), `worse`, `unknown` (no interval), or `unimproved` (the selected
    checkpoint is the one before the first update)."""
    difference: float | None
    """Of the mean test accuracies, 0..1; None where random real images were not measured."""
    low: float | None
    """95 % interval of the difference; None if a side has a single network."""
    high: float | None
    words: str
    """The same in one or two sentences."""


def near_guessing(accuracy: float, guessing: float, images: int) -> bool:
    """Whether an accuracy, measured on `images` images, shows little more than guessing does.

    It does unless it is above `guessing` by two standard errors of a guesser's accuracy, sqrt(g (1 - g) / images), and
    by a margin: the smaller of g itself and 15 % of 1 - g. All are shares, 0..1.
    """
    error = math.sqrt(guessing * (1 - guessing) / images)
    return accuracy <= guessing + ERRORS * error or not above_margin(accuracy, guessing)


def above_margin(accuracy: float, guessing: float) -> bool:
    """Whether an accuracy is above guessing by the margin of `near_guessing`, however few images it is measured on."""
    return accuracy > guessing + min(guessing, MARGIN * (1 - guessing))


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t distribution, for `freedom` >= 1 degrees, which need not be whole.

    With t = sqrt(n) tan(a), the density is proportional to cos(a)^(n - 1), which Simpson's rule integrates; the
    quantile, which is below 13, is found by bisection.
    """
    power = freedom - 1
    half = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    low, high = 0.0, math.atan(13 / math.sqrt(freedom))
    for _ in range(60):
        middle = (low + high) / 2
        step = middle / PANELS
        heights = [math.cos(step * panel) ** power for panel in range(PANELS + 1)]
        # Not `sum`, which rounds in another way from Python 3.12 on: stored intervals must not depend on the version.
        odd, even = reduce(add, heights[1:-1:2]), reduce(add, heights[2:-1:2])
        area = step / 3 * (heights[0] + heights[-1] + 4 * odd + 2 * even)
        low, high = (middle, high) if area < CONFIDENCE * half else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def difference(ours: Sequence[float], others: Sequence[float]) -> Difference | None:
    """Welch's 95 % interval for mean(ours) - mean(others); None if either has fewer than two values, or none varies.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34, 1947.
    """
    if min(len(ours), len(others)) < 2:
        return None
    mean = statistics.fmean(ours) - statistics.fmean(others)
    a, b = statistics.variance(ours) / len(ours), statistics.variance(others) / len(others)
    if a + b == 0:  # equal accuracies of a few networks say nothing about the next one
        return None
    freedom = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (len(others) - 1))
    wide = t_quantile(freedom) * math.sqrt(a + b)
    return Difference(mean, mean - wide, mean + wide)


def outcomes(
    distilled: Sequence[EvaluationDone], random: Sequence[EvaluationDone], *, unimproved: bool
) -> tuple[Outcome, ...]:
    """What was gained with every network that measured a checkpoint on the test images.

    Args:
        distilled: test accuracies of the checkpoint.
        random: those of random real images.
        unimproved: the checkpoint is the one before the first update, and was selected among later ones.
    """
    base = {result.network: result for result in random}
    return tuple(_outcome(result, base.get(result.network), unimproved) for result in distilled)


def outcome_words(found: Sequence[Outcome]) -> str:
    """Outcomes as text; a sentence that is true of several networks only once."""
    return " ".join(dict.fromkeys(outcome.words for outcome in found))


def _outcome(ours: EvaluationDone, base: EvaluationDone | None, unimproved: bool) -> Outcome:
    found = difference(ours.accuracies, base.accuracies) if base is not None else None
    gap = None if base is None else ours.mean - base.mean
    kind, words = "unknown", f"Random real images were not measured with {ours.network}."
    random = random_words(ours.formation)
    if base is not None and gap is not None:
        counts = f"{len(ours.accuracies)} and {len(base.accuracies)} networks"
        on = f" on {ours.images:,} test images" if ours.images else ""
        if found is None:
            single = min(len(ours.accuracies), len(base.accuracies)) < 2
            why = "; set evaluate.repeats to 2 or more" if single else ", whose accuracies do not vary"
            kind, more = "unknown", f"no interval from {counts}{why}"
        else:
            kind = "gained" if found.low > 0 else "worse" if found.high < 0 else "none"
            more = f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, Welch's t, {counts}{on}"
        said = {
            "gained": f"Better than {random}",
            "worse": f"Worse than {random}",
            "none": f"No difference found from {random}",
            "unknown": f"Difference from {random}",
        }[kind]
        words = f"{said}: {100 * gap:+.1f} points with {ours.network} ({more})."
    if unimproved:
        kind, words = "unimproved", UNIMPROVED
    if ours.guessing is not None and ours.images and near_guessing(ours.mean, ours.guessing, ours.images):
        few = f"not clearly above that of guessing on {ours.images:,} images"
        how = few if above_margin(ours.mean, ours.guessing) else "near that of guessing"
        words += f" The accuracy with {ours.network} is {how}, {100 * ours.guessing:.1f} %."
    low, high = (found.low, found.high) if found is not None else (None, None)
    return Outcome(ours.network, kind, gap, low, high, words)


UNIMPROVED = (
    "No improvement found: no later checkpoint has a higher held-out accuracy than checkpoint 0, the images before "
    "the first update."
)


def teachers_problem(measured: TeachersMeasured, advice: str) -> str:
    """The warning about teachers that are near guessing; empty if they are not. `advice`: the settings to change."""
    if not near_guessing(measured.mean, measured.guessing, measured.images):
        return ""
    return (
        f"The teachers are near guessing: {100 * measured.mean:.1f} % on {measured.images:,} images, where guessing "
        f"has {100 * measured.guessing:.1f} %. There is little in them to distil. {advice}"
    )


def loss_problem(mean: float, count: int, iteration: int, iterations: int, lately: int) -> str:
    """The notice about students that end no nearer to their target than they start; empty if they do.

    The mean of the last `lately` losses (of a shorter run all, at least 10) is above 0.95, once a fifth of the
    iterations is done: until then the step size may still be found.

    Args:
        mean: of the last matching losses.
        count: how many it is the mean of, at most `lately`.
        iteration: the last one.
        iterations: of the run.
        lately: how many there are in a long run.
    """
    enough = count >= max(min(lately, iterations), FEWEST_LOSSES) and 5 * iteration >= iterations
    if not enough or mean <= IDLE_LOSS:
        return ""
    measured = f"The matching loss of the last {count} iterations is {mean:.3g} on average: students end "
    if mean > 1:
        words = "further from their target than they start. Try a smaller distill.student_lr or fewer distill.steps."
    else:
        words = (
            "hardly nearer to their target than they start, which is 1. Try a larger distill.student_lr, more "
            "distill.steps, or teachers that take more steps in an epoch: a smaller teachers.batch."
        )
    return measured + words


def student_lr_problem(now: float, start: float) -> str:
    """The notice about a student_lr that is more than ten times above or below its initial value; else empty."""
    if start / FAR <= now <= start * FAR:
        return ""
    factor, where = (start / now, "below") if now < start else (now / start, "above")
    why = (
        "Students that hardly move hardly learn; it falls where teachers barely move between start and target (try a "
        "smaller teachers.batch)"
        if now < start
        else "It rises where students take too few steps to reach the target (try more distill.steps)"
    )
    return (
        f"student_lr is {now:.3g}, {factor:.0f} times {where} distill.student_lr = {start:g}. {why}. Otherwise start a "
        f"new run with distill.student_lr = {now:.2g}, or a smaller distill.lr_student_lr."
    )


def skip_rule(reason: str) -> str:
    """The rule of `SKIP_RULES` that the reason of a skipped iteration names."""
    return next((rule for rule in SKIP_RULES if rule in reason), "numbers not finite")


def no_update_words(iterations: int, skips: Mapping[str, int], zero_gradient: bool) -> tuple[str, str]:
    """Message and hint of the error of a run that ends as it began.

    Args:
        iterations: of the run.
        skips: iterations skipped, by rule.
        zero_gradient: whether the last gradient was zero.
    """
    counts = ", ".join(f"{rule}: {count}" for rule, count in skips.items())
    if sum(skips.values()) >= iterations:
        change = "; ".join(SKIP_RULES[rule] for rule in skips)
        what = "its only iteration was" if iterations == 1 else f"all {iterations:,} iterations were"
        return f"No update was applied: {what} skipped ({counts}).", f"Start a new run (--run NAME) with {change}."
    message = f"No update was applied: after {iterations:,} iterations images and labels are those of the start"
    message += f" (skipped: {counts})." if counts else "."
    if zero_gradient:
        return f"{message} Their gradient is zero.", "Start a new run (--run NAME) with a larger distill.student_lr."
    return message, "Start a new run (--run NAME) with a larger distill.lr_images."

"""Random real images: their learning rate is the one with the best held-out accuracy; distilled sets learn theirs.

It is chosen once, with the network that images are distilled with, and used for every network of the test: a learned
step size is found that way too. Every rate's accuracy is kept; runs of a workspace share the chosen one.
"""

from collections.abc import Generator
from dataclasses import asdict, replace
from typing import Any

from engine.events import EvaluationDone, Event, Notice
from engine.runs.evaluations import find_in_other_runs
from engine.runs.protocol import distilled_protocol, random_protocol
from engine.runs.run import Run
from engine.settings.decoders import random_words
from engine.training.evaluation import BASELINE_LR, RATES, Evaluation, evaluate
from engine.training.task import Task


def protocol_of(task: Task, subject: str, repeats: int) -> dict[str, Any]:
    """What a result of this subject, `distilled` or `random`, depends on."""
    if subject == "distilled":
        return distilled_protocol(task.settings, repeats)
    return {**random_protocol(task.settings, repeats), "dataset": task.dataset.fingerprint}


def recalled(
    task: Task, run: Run, subject: str, iteration: int, split: str, network: str, protocol: dict[str, Any]
) -> Generator[Event, None, EvaluationDone | None]:
    """A result that is known; of random real images also another run's, which is then this run's too."""
    found = run.evaluation(iteration, subject, split, network, protocol)
    if found is None and subject == "random":
        found = find_in_other_runs(run.evaluation_folder, iteration, subject, split, network, protocol)
        if found is not None and task.ranks.writes:
            run.save_evaluation(found, protocol)
            yield found
    return found


def held_out_random(task: Task, run: Run, subject: str = "random", iteration: int = 0) -> Generator[Event, None, float]:
    """Measure random real images on the held-out part with every rate, and keep the best; its learning rate.

    All ranks call this.

    Args:
        task: with a held-out part.
        run: where results are kept.
        subject: `random`, or `distilled` for the method random, whose draws are its own.
        iteration: of the result.
    """
    network, repeats = task.network_name, task.settings.evaluate.selection_repeats
    own = protocol_of(task, subject, repeats)
    known = yield from recalled(task, run, subject, iteration, "holdout", network, own)
    before = task.ranks.led(None if known is None else known.lr or BASELINE_LR)
    if before is not None:
        return float(before)
    asked = task.settings.evaluate.random_lr
    rates = RATES if asked == "tuned" else (asked,)
    protocols = {rate: protocol_of(_at_rate(task, rate), subject, repeats) for rate in rates}
    there = {rate: run.evaluation(iteration, subject, "holdout", network, protocols[rate]) for rate in rates}
    plain = task.ranks.led([None if one is None else asdict(one) for one in there.values()])
    found = {rate: EvaluationDone(**one) for rate, one in zip(rates, plain, strict=True) if one is not None}
    wanted = [
        Evaluation(subject, iteration, "holdout", network, repeats, lr=rate) for rate in rates if rate not in found
    ]
    for event in evaluate(task, wanted):
        if not isinstance(event, EvaluationDone):
            yield event
            continue
        assert event.lr is not None
        found[event.lr] = event
        if task.ranks.writes and len(rates) > 1:
            run.save_evaluation(event, protocols[event.lr], apart=True)
    best = max(rates, key=lambda rate: found[rate].mean)
    if len(rates) > 1:
        words = _words({rate: found[rate].mean for rate in rates}, best, repeats)
        yield Notice(level="info", message=f"{random_words(task.settings.distill.formation)}: {words}")
    result = replace(found[best], lr=best)
    if task.ranks.writes:
        run.save_evaluation(result, own)
        yield result
    return best


def random_rate(task: Task, run: Run, subject: str, iteration: int) -> Generator[Event, None, float]:
    """The learning rate to test random real images with, chosen now if it is not known. All ranks call this."""
    asked = task.settings.evaluate.random_lr
    if asked != "tuned":
        return asked
    if len(task.holdout) == 0:
        return BASELINE_LR
    return (yield from held_out_random(task, run, subject, iteration))


def _at_rate(task: Task, rate: float) -> Task:
    evaluate_there = task.settings.evaluate.model_copy(update={"random_lr": rate})
    return replace(task, settings=task.settings.model_copy(update={"evaluate": evaluate_there}))


def _words(means: dict[float, float], best: float, repeats: int) -> str:
    tried = ", ".join(f"{rate:g} ({100 * mean:.1f} %)" for rate, mean in means.items())
    networks = "1 network" if repeats == 1 else f"{repeats} networks"
    return f"learning rate {best:g}, by held-out accuracy of {networks} each: {tried}"

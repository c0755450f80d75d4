"""Learning rates of evaluations, chosen by held-out accuracy; that of every rate is kept.

That of random real images is chosen once, with the network that images are distilled with, and used for every network
of the test: distilled sets learn theirs that way too. Runs of a workspace share it. With `evaluate.other_networks_lr`
= tuned, other networks have rates of their own, for both.
"""

from collections.abc import Generator, Mapping
from dataclasses import asdict, replace
from typing import Any

from engine.events import EvaluationDone, Event, Notice
from engine.runs.evaluations import find_in_other_runs
from engine.runs.protocol import distilled_protocol, random_protocol
from engine.runs.run import Run
from engine.settings.decoders import random_words
from engine.training.evaluation import BASELINE_LR, RATES, Evaluation, evaluate
from engine.training.task import Task
from engine.training.training_set import TrainingSet


def protocol_of(task: Task, subject: str, repeats: int, network: str | None = None) -> dict[str, Any]:
    """What a result of this subject, `distilled` or `random`, depends on; `network`: None for the teachers'."""
    if subject == "distilled":
        return distilled_protocol(task.settings, repeats, network)
    return {**random_protocol(task.settings, repeats, network), "dataset": task.dataset.fingerprint}


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
    wanted = {rate: Evaluation(subject, iteration, "holdout", network, repeats, lr=rate) for rate in rates}
    found = yield from _judged(task, run, wanted, protocols)
    best = max(rates, key=lambda rate: found[rate].mean)
    if len(rates) > 1:
        yield Notice(level="info", message=_words(_named(task, subject), found, best))
    result = replace(found[best], lr=best)
    if task.ranks.writes:
        run.save_evaluation(result, own)
        yield result
    return best


def network_rate(
    task: Task, run: Run, network: str, subject: str, iteration: int, small: TrainingSet | None
) -> Generator[Event, None, float]:
    """The learning rate with the best held-out accuracy for a network other than the teachers'. All ranks call this.

    Args:
        task: with a held-out part.
        run: where the accuracy of every rate is kept.
        network: that is trained.
        subject: `distilled` or `random`.
        iteration: of the result.
        small: what it is trained on, whose own rate is tried too. None: random real images.
    """
    repeats = task.settings.evaluate.selection_repeats
    rates = RATES if small is None else tuple(sorted({small.lr, *RATES}))
    own = protocol_of(task, subject, repeats, network)
    protocols = {rate: {**own, "other_networks_lr": rate} for rate in rates}
    wanted = {rate: Evaluation(subject, iteration, "holdout", network, repeats, small, rate) for rate in rates}
    found = yield from _judged(task, run, wanted, protocols)
    best = max(rates, key=lambda rate: found[rate].mean)
    yield Notice(level="info", message=_words(f"{_named(task, subject)} with {network}", found, best))
    return best


def _judged(
    task: Task, run: Run, wanted: Mapping[float, Evaluation], protocols: Mapping[float, dict[str, Any]]
) -> Generator[Event, None, dict[float, EvaluationDone]]:
    """Results of the same evaluation by learning rate, measured where they are not known; of several, each is kept."""
    there = [
        run.evaluation(one.iteration, one.subject, one.split, one.network, protocols[rate])
        for rate, one in wanted.items()
    ]
    plain = task.ranks.led([None if one is None else asdict(one) for one in there])
    found = {rate: EvaluationDone(**one) for rate, one in zip(wanted, plain, strict=True) if one is not None}
    for event in evaluate(task, [one for rate, one in wanted.items() if rate not in found]):
        if not isinstance(event, EvaluationDone):
            yield event
            continue
        assert event.lr is not None
        found[event.lr] = event
        if task.ranks.writes and len(wanted) > 1:
            run.save_evaluation(event, protocols[event.lr], apart=True)
    return found


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


def _named(task: Task, subject: str) -> str:
    """What is trained on, for people."""
    random = subject == "random" or task.settings.draws_random
    return random_words(task.settings.distill.formation) if random else "distilled images"


def _words(what: str, found: Mapping[float, EvaluationDone], best: float) -> str:
    tried = ", ".join(f"{rate:.3g} ({100 * found[rate].mean:.1f} %)" for rate in sorted(found))
    repeats = len(found[best].accuracies)
    networks = "1 network" if repeats == 1 else f"{repeats} networks"
    edge = {min(found): " (the lowest tried)", max(found): " (the highest tried)"}.get(best, "")
    return f"{what}: learning rate {best:.3g}{edge}, by held-out accuracy of {networks} each: {tried}"

"""Stage 3: train fresh networks on a small set of images and measure them on real ones.

Protocol (of MTT and TESLA): SGD with momentum 0.9, weight decay 5e-4, batches of `evaluate.batch`, DSA, learning rate a
tenth after half the epochs. Published code also clears the momentum there (`evaluate.reset_momentum`). The checkpoint
is selected on a held-out part of the training images; the test images are used once, for the selected one.
"""

import statistics
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from engine.data.augment import draw_augment
from engine.data.policies import PolicyAugment
from engine.events import EvaluationDone, Event, Notice, Progress
from engine.networks.flat import load_parameters
from engine.runs.protocol import tunes_network
from engine.runtime.finite import is_finite
from engine.runtime.generators import map_events
from engine.runtime.rng import counted_generator, counted_seed
from engine.training.labels import class_index, hard_labels
from engine.training.real_images import packed_images, random_real
from engine.training.sgd import SgdRule, Trainer
from engine.training.task import Split, Task
from engine.training.trainer import say_spelling, trainer
from engine.training.training_set import SmallSet, TrainingSet, at_rate, small_set

STAGE = "evaluation"

RULE = SgdRule(momentum=0.9, weight_decay=5e-4)
BASELINE_LR = 0.01
"""Learning rate for real images that have none of their own and are not tuned: that of DC, DM and MTT."""
RATES = (0.003, 0.01, 0.03, 0.1)
"""Learning rates that are tried where one is tuned."""
MEASURE = 1024
"""Real images per forward pass, at most ..."""
MEASURE_PIXELS = 2**20
"""... and their pixels (B x H x W): 1024 images of 32x32."""
TELL_EVERY = 0.1
"""Seconds between two reports of a network in training."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One that is wanted: `repeats` fresh networks, trained on a small set and measured."""

    subject: str
    """`distilled` or `random`."""
    iteration: int
    split: str
    """`holdout` or `test`."""
    network: str
    repeats: int
    small: TrainingSet | Callable[[int], TrainingSet] | None = None
    """What is trained on, the same or by repeat. None: as many random real images with one-hot labels, drawn again in
    every repeat."""
    lr: float | None = None
    """Learning rate; None: that of the set. Random real images need one."""


def evaluate(task: Task, evaluations: Sequence[Evaluation]) -> Generator[Event, None, None]:
    """Train and measure the networks of all evaluations, dealt out over the ranks; an `EvaluationDone` for each.

    Every repeat has its own initial weights and augmentations, the same at every iteration, so that checkpoints are
    compared and not draws; and the same on every rank, so that the result does not depend on how many there are.

    All ranks call this with the same evaluations, and all get their results. What networks are warned about on another
    rank is reported by the first as well.
    """
    ranks = task.ranks
    networks = [(evaluation, repeat) for evaluation in evaluations for repeat in range(evaluation.repeats)]
    accuracies: dict[Evaluation, list[float]] = {}
    started: dict[Evaluation, float] = {}
    said: set[str] = set()
    for base in range(0, len(networks), ranks.size):  # a round: a network for each rank
        dealt = networks[base : base + ranks.size]
        for evaluation, _ in dealt:
            started.setdefault(evaluation, time.monotonic())
        accuracy: float | None = None
        warnings: list[str] = []
        for evaluation, repeat in dealt[ranks.rank :][:1]:
            stage = _one(task, evaluation, repeat)
            if ranks.size > 1:
                stage = map_events(stage, _of_all(base, repeat, len(dealt), len(networks)))
            accuracy = yield from map_events(stage, partial(_noting, warnings))
        if ranks.size > 1:
            yield Progress(
                stage=STAGE, done=base + len(dealt), total=len(networks), unit="networks",
                detail="waiting for the other workers",
            )  # fmt: skip
        found = ranks.gathered([accuracy, warnings])
        said.update(warnings)
        for (evaluation, _), (accuracy, told) in zip(dealt, found, strict=False):
            for words in told:
                if words not in said:
                    said.add(words)
                    yield Notice(level="warning", message=words)
            accuracies.setdefault(evaluation, []).append(accuracy)
            if len(accuracies[evaluation]) == evaluation.repeats:
                yield _done(task, evaluation, accuracies[evaluation], started[evaluation])


def _of_all(base: int, repeat: int, width: int, total: int) -> Callable[[Event], Event]:
    """Progress of one network, as that of a round of `width` networks that began after `base` of `total`."""

    def change(event: Event) -> Event:
        if isinstance(event, Progress):
            return replace(event, done=base + width * (event.done - repeat), total=total)
        return event

    return change


def _noting(warnings: list[str], event: Event) -> Event:
    """Note what an event warns about."""
    if isinstance(event, Notice) and event.level == "warning":
        warnings.append(event.message)
    return event


def evaluate_distilled(
    task: Task,
    small: TrainingSet | Callable[[int], TrainingSet],
    *,
    iteration: int,
    split: str,
    network: str,
    repeats: int,
) -> Generator[Event, None, EvaluationDone]:
    """Train `repeats` fresh networks on a set, or each on its own, and measure them on `split` (holdout or test)."""
    return (yield from _result(task, Evaluation("distilled", iteration, split, network, repeats, small)))


def evaluate_random(
    task: Task, *, split: str, network: str, repeats: int, lr: float = BASELINE_LR, subject: str = "random"
) -> Generator[Event, None, EvaluationDone]:
    """Random real images at the same IPC, one-hot labels, another draw in every repeat.

    The baseline; or with the subject `distilled` the method random, whose draws are others.
    """
    return (yield from _result(task, Evaluation(subject, 0, split, network, repeats, lr=lr)))


def _result(task: Task, evaluation: Evaluation) -> Generator[Event, None, EvaluationDone]:
    """`evaluate` for one, whose result is returned."""
    results = []
    for event in evaluate(task, [evaluation]):
        if isinstance(event, EvaluationDone):
            results.append(event)
        else:
            yield event
    return results[0]


def _random_set(task: Task, evaluation: Evaluation, repeat: int) -> TrainingSet:
    ipc = task.settings.distill.ipc
    labels = hard_labels(class_index(task.classes, ipc, task.device), task.classes, task.dtype)
    # The method random is exported with its first draw; its baseline is other draws.
    purpose = "baseline" if evaluation.subject == "random" else "init-real"
    counters = () if purpose == "init-real" and repeat == 0 else (repeat,)
    images = packed_images(task, random_real(task, ipc * task.decoder.views, purpose, *counters))
    return small_set(SmallSet(images, labels, BASELINE_LR), task.decoder)


def _one(task: Task, evaluation: Evaluation, repeat: int) -> Generator[Event, None, float]:
    network, repeats = evaluation.network, evaluation.repeats
    what = f"{evaluation.subject}, {network}"
    given = evaluation.small
    small = _random_set(task, evaluation, repeat) if given is None else given(repeat) if callable(given) else given
    if evaluation.lr is not None:
        small = at_rate(small, evaluation.lr)
    seed = task.settings.seed
    model = task.fresh_network(counted_seed(seed, "evaluate-init", repeat), network).train()
    yield from say_spelling(task, network)
    epochs = small.epochs or task.settings.evaluate.epochs
    counts = planned_steps(task, network, len(small), epochs)
    batches = [small.batch(torch.arange(size)) for size in counts]
    at = Progress(stage=STAGE, done=repeat, total=repeats, unit="networks")
    learner = yield from trainer(task, model, network, RULE, batches, counts, at)
    told = 0.0
    for epoch in train_on_small(task, learner, small, repeat):
        now = time.monotonic()
        if now - told > TELL_EVERY or epoch == epochs:
            told = now
            yield Progress(
                stage=STAGE, done=repeat + 0.95 * epoch / epochs, total=repeats, unit="networks",
                detail=f"{what}, network {repeat + 1}/{repeats}",
            )  # fmt: skip
    theta = learner.theta()
    if not is_finite(theta):
        # Measured anyway: it always predicts the first class, which scores like guessing.
        yield Notice(
            level="warning",
            message=f"Network {repeat + 1} of {repeats} ({what}) diverged in training at a learning rate of "
            f"{small.lr:.3g}; its accuracy, that of guessing, is counted.",
        )
    load_parameters(model, theta)
    accuracy = yield from measure(model, _measured_on(task, evaluation.split), repeat, repeats)
    return accuracy


def _measured_on(task: Task, split: str) -> Split:
    return task.test if split == "test" else task.holdout


def planned_steps(task: Task, network: str, count: int, length: int | None = None) -> dict[int, int]:
    """SGD steps of all evaluations of a run with one network, by batch size.

    From the settings only, whatever is already done. The teachers' network is also the one that checkpoints are
    selected with. `count` images are trained on for `length` epochs (unset: `evaluate.epochs`).
    """
    settings = task.settings
    subjects = 2 if settings.evaluate.baseline else 1
    networks = 0
    if tunes_network(settings, "distilled", network):
        networks += (subjects * len(RATES) + 1) * settings.evaluate.selection_repeats
    if network in (settings.evaluate.networks or (task.network_name,)):
        networks += subjects * settings.evaluate.repeats
    if network == task.network_name:
        rates = len(RATES) if settings.evaluate.random_lr == "tuned" else 1
        selections = settings.distill.iterations // settings.evaluate.every + 1 + (subjects - 1) * rates
        networks += selections * settings.evaluate.selection_repeats
    epochs = max(networks, settings.evaluate.repeats) * (length or settings.evaluate.epochs)
    batch = settings.evaluate.batch
    planned = {min(batch, count): epochs * max(count // batch, 1)}
    if count > batch and count % batch:
        planned[count % batch] = epochs
    return planned


def train_on_small(task: Task, learner: Trainer, small: TrainingSet, repeat: int) -> Generator[float, None, None]:
    """Train a network on a small set to the protocol, yielding the number of epochs done after every batch.

    Nothing waits for the device: on an accelerator the host runs ahead as far as the device allows.
    """
    settings = task.settings
    count, epochs = len(small), small.epochs or settings.evaluate.epochs
    name = settings.evaluate.augment
    ops = settings.augment.ops if name == "dsa" else ()
    policy = None if name == "dsa" or name == "none" else PolicyAugment(name, task.space, task.dataset.resolution)
    falls = (epochs + 1) // 2
    for epoch in range(epochs):
        lr = small.lr if epoch < falls else small.lr * 0.1
        if epoch == falls and settings.evaluate.reset_momentum:
            learner.rest()
        generator = counted_generator(settings.seed, "evaluate", repeat, epoch)
        order = torch.randperm(count, generator=generator)
        batches = order.split(settings.evaluate.batch)
        for number, index in enumerate(batches, 1):
            batch, labels = small.batch(index)
            if policy is not None:
                batch = policy(batch, counted_seed(settings.seed, "evaluate-policy", repeat, epoch, number))
            augment = draw_augment(generator, ops, batch.shape, task.device)
            learner.step(augment(batch), labels, lr)
            yield epoch + number / len(batches)


def measure(model: nn.Module, split: Split, repeat: int, repeats: int) -> Generator[Event, None, float]:
    """Accuracy 0..1 of a network on real images, without augmentation."""
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)
    parts = torch.arange(len(split)).split(max(1, min(MEASURE, MEASURE_PIXELS // split.images.pixels)))
    for number, index in enumerate(parts):
        with torch.no_grad():
            predicted = model(split.images.encoded(index)).argmax(dim=1)
            correct += (predicted == split.targets(index)).sum()
        yield Progress(
            stage=STAGE, done=repeat + 0.95 + 0.05 * (number + 1) / len(parts), total=repeats, unit="networks",
            detail="measuring",
        )  # fmt: skip
    return correct.item() / len(split)


def guessing(labels: Tensor) -> float:
    """The share of the most frequent class among labels `(N,)`: the accuracy of always answering it."""
    return labels.bincount().max().item() / len(labels)


def _done(task: Task, evaluation: Evaluation, accuracies: list[float], started: float) -> EvaluationDone:
    measured = _measured_on(task, evaluation.split)
    return EvaluationDone(
        iteration=evaluation.iteration,
        subject=evaluation.subject,
        split=evaluation.split,
        network=evaluation.network,
        mean=statistics.fmean(accuracies),
        std=statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        accuracies=accuracies,
        seconds=time.monotonic() - started,
        images=len(measured),
        guessing=guessing(measured.labels),
        formation=task.settings.distill.formation,
        lr=evaluation.lr,
    )

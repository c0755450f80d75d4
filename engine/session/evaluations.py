"""Which evaluations a run needs, and where their results are kept: known results are not measured again.

The held-out part selects the checkpoint; the test images are used once, for the selected one. Ranks divide the networks
among them; the first knows what is known, and writes.
"""

import itertools
from collections.abc import Generator, Sequence
from typing import Any

from engine.events import EvaluationDone, Event, Progress, stage_events
from engine.methods.method import State
from engine.methods.registry import method_of
from engine.runs.protocol import distilled_protocol, tunes_network
from engine.runs.run import Run
from engine.session.learning_rates import held_out_random, network_rate, protocol_of, random_rate, recalled
from engine.training.evaluation import STAGE, Evaluation, evaluate
from engine.training.real_images import check_ipc
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.training_set import SmallSet, TrainingSet, WholeSet, small_set

Events = Generator[Event, None, None]


def held_out(task: Task, buffer: TeacherBuffer, run: Run, state: State) -> Events:
    """The held-out accuracy of this state, unless it is known or nothing is held out. All ranks call this."""
    repeats = task.settings.evaluate.selection_repeats
    if len(task.holdout) == 0 or task.ranks.led(evaluation_known(task, run, state.iteration)):
        return
    if task.settings.draws_random:
        yield from stage_events("evaluation", _unreturned(held_out_random(task, run, "distilled", state.iteration)))
        return
    small = yield from training_set(task, buffer, state)
    wanted = Evaluation("distilled", state.iteration, "holdout", task.network_name, repeats, small)
    yield from stage_events("evaluation", _kept(task, run, [wanted]))


def evaluation_known(task: Task, run: Run, iteration: int) -> bool:
    """Whether the held-out accuracy of a checkpoint was measured as the settings say."""
    protocol = distilled_protocol(task.settings, task.settings.evaluate.selection_repeats)
    return run.evaluation(iteration, "distilled", "holdout", task.network_name, protocol) is not None


def baseline(task: Task, run: Run) -> Events:
    """The held-out accuracy of random real images: what the curve starts from and has to beat.

    Runs of a workspace that draw the same images share it. All ranks call this.
    """
    if len(task.holdout) == 0 or not task.settings.evaluate.baseline:
        return
    protocol = protocol_of(task, "random", task.settings.evaluate.selection_repeats)
    known = yield from recalled(task, run, "random", 0, "holdout", task.network_name, protocol)
    if not task.ranks.led(known is not None):
        yield from stage_events("evaluation", _unreturned(held_out_random(task, run)))


def _unreturned(events: Generator[Event, None, float]) -> Events:
    yield from events


def _kept(task: Task, run: Run, wanted: Sequence[Evaluation]) -> Events:
    """Measure; every result is saved as it is complete, by the rank that writes."""
    settings = task.settings.evaluate
    repeats = {"holdout": settings.selection_repeats, "test": settings.repeats}
    for event in evaluate(task, wanted):
        if not isinstance(event, EvaluationDone):
            yield event
        elif task.ranks.writes:
            yield from _written(run, event, protocol_of(task, event.subject, repeats[event.split], event.network))


def _written(run: Run, result: EvaluationDone, protocol: dict[str, Any]) -> Events:
    run.save_evaluation(result, protocol)
    yield result


def final_test(task: Task, buffer: TeacherBuffer, run: Run, iteration: int, networks: Sequence[str]) -> Events:
    """Test accuracy of one checkpoint and of random real images, for every network; known results are kept.

    All ranks call this.
    """
    settings = task.settings
    repeats = settings.evaluate.repeats
    subjects = [("distilled", iteration), *([("random", 0)] if settings.evaluate.baseline else [])]
    missing = []
    for network, (subject, at) in itertools.product(networks, subjects):
        protocol = protocol_of(task, subject, repeats, network)
        if (yield from recalled(task, run, subject, at, "test", network, protocol)) is None:
            missing.append((network, subject, at))
    missing = task.ranks.led(missing)
    _check_possible(task, [(network, subject) for network, subject, _ in missing])
    drawn = {"random", "distilled"} if settings.draws_random else {"random"}
    tuned = {(network, subject) for network, subject, _ in missing if tunes_network(settings, subject, network)}
    shared: dict[str, float] = {}
    for subject, at in subjects:
        if subject in drawn and any(subject == one and (name, one) not in tuned for name, one, _ in missing):
            shared[subject] = yield from random_rate(task, run, subject, at)
    small: TrainingSet | None = None
    if any(subject not in drawn for _, subject, _ in missing):
        # Soft labels need up to a hundred teachers: once, and only if required.
        state = method_of(settings).restore_state(*run.load_checkpoint(iteration), task)
        small = yield from training_set(task, buffer, state)
    wanted = []
    for network, subject, at in missing:
        images = None if subject in drawn else small
        rate = shared.get(subject)
        if (network, subject) in tuned:
            rate = yield from network_rate(task, run, network, subject, at, images)
        wanted.append(Evaluation(subject, at, "test", network, repeats, images, rate))
    yield from _kept(task, run, wanted)


def _check_possible(task: Task, missing: Sequence[tuple[str, str]]) -> None:
    """Check what the missing results of (network, subject) need, before the first network is trained.

    Raises:
        UsageError: there is no such network, or it cannot have these images; or a class has too few for the baseline.
    """
    for network in dict.fromkeys(network for network, _ in missing):
        task.fresh_network(0, network)
    if any(subject == "random" for _, subject in missing):
        check_ipc(task)


def training_set(task: Task, buffer: TeacherBuffer, state: State) -> Generator[Event, None, TrainingSet]:
    """A state as it is exported: its own images (no copy), the labels that go with them, the learned step size.

    All training images where the method is to train on them.
    """
    method = method_of(task.settings)
    if method.export_labels is None:
        return WholeSet(task.train, state.student_lr.item(), task.settings.evaluate.whole_epochs)
    at = Progress(stage=STAGE, done=0, total=1, unit="networks", detail="labels")
    labels = yield from method.export_labels(task, buffer, state, at)
    return small_set(SmallSet(state.images, labels, state.student_lr.item()), task.decoder)

"""What the augmentation of an evaluation contributes: the same images under DSA, AutoAugment, RandAugment and none.

Appendix A.9 of the paper. The measurements are the study's own points: the run's results, which belong to its own
`evaluate.augment`, stay as they are.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

from engine.errors import UsageError
from engine.events import EvaluationDone, Event, Progress, StageFinished, StageStarted
from engine.methods.registry import method_of
from engine.runs.protocol import random_protocol
from engine.runs.run import Run
from engine.runs.selection import checkpoint_to_use
from engine.runs.workspace import Workspace
from engine.session.evaluations import training_set
from engine.session.learning_rates import random_rate
from engine.session.memory_hints import explain_out_of_memory
from engine.session.open_task import open_finished
from engine.settings import EffectiveSettings, EvaluateSettings, Settings
from engine.settings.decoders import packed_words
from engine.storage.atomic import sha256_file
from engine.tools.studies.members import STAGE, check_runs, heading, value_of
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, Value
from engine.tools.studies.points import Points
from engine.tools.studies.tables import ACCURACY, GAIN, NETWORK_SPREAD, OF_ONE_RUN, RANDOM, Study
from engine.training.evaluation import evaluate_distilled, evaluate_random
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

POLICIES: tuple[str, ...] = get_args(EvaluateSettings.model_fields["augment"].annotation)
"""Every `evaluate.augment`."""

Results = dict[tuple[str, str], Value]
"""By policy and subject, `distilled` or `random`."""


def augment(workspace: Workspace, name: str, runs: Sequence[Run], overrides: Sequence[str]) -> Study:
    """Appendix A.9: runs, and random real images beside them, evaluated with every augmentation.

    Raises:
        UsageError: no runs, one without a checkpoint, or an augmentation among the overrides.
    """
    check_runs(workspace, runs)
    if any(text.partition("=")[0].strip() == "evaluate.augment" for text in overrides):
        raise UsageError(f"The study runs evaluate.augment = {', '.join(POLICIES)}.", "Leave it out.")
    planned = []
    for run in runs:
        run.check_formats()
        effective = workspace.settings(overrides=tuple(overrides), run=run)
        planned.append((run, effective, checkpoint_to_use(run, effective.settings, None)))
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    rows: list[dict[str, Cell]] = []
    curves: list[Curve] = []
    baselines: list[Curve] = []
    for number, (run, effective, iteration) in enumerate(planned):
        at = Progress(stage=STAGE, done=number, total=len(runs), unit="runs", detail=run.name)
        yield at
        yield heading(run, f"iteration {iteration}", number, len(runs), finished=False)
        found = yield from _measured(workspace, name, run, effective.settings, iteration, at)
        for policy in POLICIES:
            value, random = found[policy, "distilled"], found.get((policy, "random"))
            rows.append({
                "run": run.name, "method": effective.settings.distill.method, "ipc": effective.settings.distill.ipc,
                "augment": policy, "accuracy": value, "random": random,
                "gain": None if random is None else value.mean - random.mean, "n": value.count,
            })  # fmt: skip
        curves.append(_bars(run.name, found, "distilled"))
        distill = effective.settings.distill
        label = f"random, IPC {distill.ipc}{packed_words(distill.formation)}"
        if effective.settings.evaluate.baseline and label not in [curve.label for curve in baselines]:
            baselines.append(_bars(label, found, "random"))
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    columns = [
        Column("run", "run"), Column("method", "method"), Column("ipc", "IPC", "count"),
        Column("augment", "augmentation"), ACCURACY, RANDOM, GAIN, OF_ONE_RUN,
    ]  # fmt: skip
    return Outcome(
        study="augment",
        title="Augmentation in evaluations",
        question="Networks trained on the same images with DSA, AutoAugment, RandAugment and no augmentation (paper: "
        "App. A.9).",
        columns=[column for column in columns if any(row[column.key] is not None for row in rows)],
        rows=rows,
        charts=[
            Chart(
                "Test accuracy",
                "",
                "accuracy, %",
                [*curves, *baselines],
                names=list(POLICIES),
                percent=True,
                spread=NETWORK_SPREAD,
            )
        ],
        notes=[
            "The selected checkpoint of every run; ± is the sample standard deviation of one run's networks. The "
            "learning rate is the one that the run learned, under the augmentation of its own matching steps; that of "
            "random real images the one tuned for the run's own augmentation.",
            "Every row is measured on the test images: the table compares augmentations, it selects nothing. The "
            "run's own results are not changed.",
        ],
        setting=_shared([effective for _, effective, _ in planned]),
    )


def _bars(label: str, found: Results, subject: str) -> Curve:
    values = [found[policy, subject] for policy in POLICIES]
    return Curve(
        label, list(range(len(values))), [value.mean for value in values], [value.std or 0.0 for value in values]
    )


def _measured(
    workspace: Workspace, name: str, run: Run, settings: Settings, iteration: int, at: Progress
) -> Generator[Event, None, Results]:
    """The test accuracy of one checkpoint under every policy, measured where it is not known."""
    task, buffer = yield from explain_out_of_memory(open_finished(workspace, settings), None)
    own, anybodys = _identities(task, buffer, sha256_file(run.checkpoint_path(iteration)))
    folder = workspace.folder / "studies" / name
    kept = {"distilled": Points(folder, own), "random": Points(folder, anybodys)}
    state = method_of(settings).restore_state(*run.load_checkpoint(iteration), task)
    subjects = [subject for subject in kept if subject == "distilled" or settings.evaluate.baseline]
    small = None
    found: Results = {}
    for number, (policy, subject) in enumerate((p, s) for p in POLICIES for s in subjects):
        share = number / (len(POLICIES) * len(subjects))
        yield replace(at, done=at.done + share, detail=f"{run.name}, {policy}, {subject}")
        point = kept[subject].get(policy)
        if point is None:
            evaluated = settings.evaluate.model_copy(update={"augment": policy})
            there = replace(task, settings=settings.model_copy(update={"evaluate": evaluated}))
            repeats, network = settings.evaluate.repeats, task.network_name
            if subject == "random" or settings.draws_random:
                rate = yield from random_rate(task, run, subject, 0)
                evaluation = evaluate_random(
                    there, split="test", network=network, repeats=repeats, lr=rate, subject=subject
                )
            else:
                small = small or (yield from training_set(task, buffer, state))
                evaluation = evaluate_distilled(
                    there, small, iteration=iteration, split="test", network=network, repeats=repeats
                )
            point = asdict((yield from explain_out_of_memory(evaluation, there)))
            kept[subject].put(policy, point)
        value = value_of(EvaluationDone(**point))
        assert value is not None
        found[policy, subject] = value
    return found


def _identities(task: Task, buffer: TeacherBuffer, checkpoint: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a point depends on besides its policy: of a run, and of random real images any caller."""
    settings = task.settings
    under_dsa = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"augment": "dsa"})})
    protocol = random_protocol(under_dsa, settings.evaluate.repeats)
    lengths = {name: protocol.pop(name) for name in ("epochs", "repeats")}
    random = {"subject": "random", "dataset": task.dataset.fingerprint, "evaluate": lengths, **protocol}
    run = {
        "subject": "distilled", "checkpoint": checkpoint, "distill": settings.distill.model_dump(),
        "labels": settings.labels.model_dump(), "whole_epochs": settings.evaluate.whole_epochs,
        # Soft labels are what the teachers say.
        "teachers": {**settings.teachers.model_dump(), "buffer": buffer.identity},
    }  # fmt: skip
    return {**random, **run}, random


def _shared(all_settings: Sequence[EffectiveSettings]) -> dict[str, Any]:
    keys = (
        "dataset.name", "dataset.path", "dataset.zca", "network.name", "network.width", "network.depth",
        "distill.method", "distill.ipc", "distill.iterations", "augment.ops", "evaluate.epochs", "evaluate.repeats",
        "seed",
    )  # fmt: skip
    flats = [effective.flat() for effective in all_settings]
    return {key: flats[0][key] for key in keys if all(flat[key] == flats[0][key] for flat in flats)}

"""Studies that only train networks: `sla-only`, `cross`."""

import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from typing import Any

from engine.events import EvaluationDone, Event, Progress, StageFinished, StageStarted, stage_events
from engine.runs.protocol import tunes_network
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.session.session import evaluate_run
from engine.settings import EffectiveSettings
from engine.tools.studies import paper_results
from engine.tools.studies.groups import by_seed, find_whole, gain_over, over_runs, own_teachers, share_of
from engine.tools.studies.members import STAGE, Record, check_runs, heading, read_record, shared_setting, value_of
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, spread_of
from engine.tools.studies.points import Points
from engine.tools.studies.seeds import seeds_notes
from engine.tools.studies.tables import (
    ACCURACY,
    GAIN,
    NETWORK_SPREAD,
    OF_ONE_RUN,
    OF_WHOLE,
    PUBLISHED,
    RANDOM,
    RUNS,
    Study,
    published_notes,
    shown,
    spread_note,
    spread_words,
    unequal_words,
    unfinished_notes,
    whole_notes,
)  # fmt: skip
from engine.training.evaluation import BASELINE_LR, evaluate_distilled
from engine.training.labels import class_index, hard_labels, mean_labels
from engine.training.real_images import random_real, real_images
from engine.training.teachers import train_teachers
from engine.training.training_set import SmallSet

NETWORKS = ("convnet", "resnet18", "vit")
"""Of the paper's Table 2."""


def sla_only(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str]) -> Study:
    """Figure 5: fixed random real images, labelled by the teachers at every epoch."""
    effective = workspace.settings(ipc=ipc, overrides=tuple(overrides))
    settings = effective.settings
    task, buffer = yield from open_task(workspace, settings)
    buffer.open()
    yield from stage_events("teachers", train_teachers(task, buffer))
    evaluated = settings.evaluate.model_dump(include={"epochs", "repeats"})
    later = settings.evaluate.model_dump(include={"batch", "reset_momentum"}, exclude_defaults=True)
    identity = {
        "teachers": buffer.identity, "count": settings.teachers.count, "seed": settings.seed,
        "ipc": settings.distill.ipc, "evaluate": {**evaluated, **later},
    }  # fmt: skip
    kept = Points(workspace.folder / "studies" / name, identity)
    images = real_images(task, random_real(task, settings.distill.ipc, "init-real"))
    hard = hard_labels(class_index(task.classes, settings.distill.ipc).to(task.device), task.classes, task.dtype)
    epochs = range(settings.trained_epochs + 1)
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    rows: list[dict[str, Cell]] = []
    for number, epoch in enumerate((None, *epochs)):
        label = "one-hot" if epoch is None else f"teachers at epoch {epoch}"
        at = Progress(stage=STAGE, done=number, total=len(epochs) + 1, unit="label sets", detail=label)
        yield at
        key = "hard" if epoch is None else f"epoch-{epoch:03d}"
        point = kept.get(key)
        if point is None:
            labels = hard
            if epoch is not None:
                thetas = (buffer.read(trajectory, epoch)[0] for trajectory in range(settings.teachers.count))
                labels = run_to_end(mean_labels(task.flat_network(), thetas, images))
            result = yield from evaluate_distilled(
                task, SmallSet(images, labels, BASELINE_LR), iteration=epoch or 0, split="test",
                network=task.network_name, repeats=settings.evaluate.repeats,
            )  # fmt: skip
            point = asdict(result)
            kept.put(key, point)
        value = value_of(EvaluationDone(**point))
        rows.append({"labels": label, "accuracy": value, "n": value.count if value else None})
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    found = [row["accuracy"] for row in rows[1:]]
    heights = [getattr(value, "mean", 0.0) for value in found]
    spreads = [getattr(value, "std", None) or 0.0 for value in found]
    flat = getattr(rows[0]["accuracy"], "mean", 0.0)
    curves = [
        Curve("soft labels, images fixed", list(epochs), heights, spreads),
        Curve("one-hot labels", [epochs[0], epochs[-1]], [flat, flat], reference=True),
    ]  # fmt: skip
    return Outcome(
        study="sla-only",
        title="What soft labels alone contribute",
        question="Fixed random real images with the mean of all teachers' labels at an epoch (paper: Figure 5).",
        columns=[Column("labels", "labels"), ACCURACY, OF_ONE_RUN],
        rows=rows,
        charts=[
            Chart(
                "Test accuracy",
                "teacher epoch the labels are from",
                "accuracy, %",
                curves,
                percent=True,
                spread=NETWORK_SPREAD,
            )
        ],
        notes=[
            f"Learning rate {BASELINE_LR:g} in every row. ± is the sample standard deviation over the networks of one "
            "set of images.",
            "Every point is measured on the test images: it shows a curve, it selects nothing.",
        ],
        setting=_setting(effective, ("distill.ipc", "teachers.count", "evaluate.epochs", "evaluate.repeats")),
    )


def cross(workspace: Workspace, runs: Sequence[Run], networks: Sequence[str], overrides: Sequence[str]) -> Study:
    """Table 2: the images of runs under other networks than they were made with.

    Raises:
        UsageError: no runs.
    """
    check_runs(workspace, runs)
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    records: list[Record] = []
    for number, run in enumerate(runs):
        at = Progress(stage=STAGE, done=number, total=len(runs), unit="runs", detail=run.name)
        yield at
        yield heading(run, "evaluation", number, len(runs), finished=False)
        settings = workspace.settings(overrides=tuple(overrides), run=run).settings
        yield from _within(evaluate_run(workspace, run, settings, None, networks), at)
        records.append(read_record(run, settings))
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    groups = by_seed(records)
    counts = [len(group.records) for group in groups]
    several = max(counts)
    whole = find_whole(workspace, groups[0].settings)
    rows: list[dict[str, Cell]] = []
    for group in groups:
        for network in networks:
            values = [value_of(record.test.get(network)) for record in group.records]
            randoms = [value_of(record.random.get(network)) for record in group.records]
            value = over_runs(values)
            rows.append({
                "run": group.member.label, "method": group.settings.distill.method, "ipc": group.settings.distill.ipc,
                "network": network, "accuracy": value, "random": over_runs(randoms), "gain": gain_over(values, randoms),
                "of_whole": share_of(value, group.settings, whole, network),
                "published": paper_results.cross_accuracy(group.settings, network),
                "n": len(values), "networks": next((value.count for value in values if value), None),
            })  # fmt: skip
    curves = []
    for group in groups:
        found = [over_runs([value_of(record.test.get(network)) for record in group.records]) for network in networks]
        there = [(place, value) for place, value in enumerate(found) if value is not None]
        curves.append(
            Curve(
                group.member.label,
                [place for place, _ in there],
                [value.mean for _, value in there],
                [spread_of(value) or 0.0 for _, value in there],
            )
        )
    columns = [
        Column("run", "run"), Column("method", "method"), Column("ipc", "IPC", "count"), Column("network", "network"),
        ACCURACY, OF_WHOLE, RANDOM, GAIN, PUBLISHED, RUNS, Column("networks", "networks of each", "count"),
    ]  # fmt: skip
    each = max((int(str(row["networks"] or 0)) for row in rows), default=0)
    notes = ["Test accuracy of the checkpoint that the held-out part of the training images selected."]
    notes += (
        [spread_note(each)]
        if several == 1
        else seeds_notes([len(group.records) for group in groups], own_teachers(groups))
    )
    if several > 1 and 1 in counts:
        notes.append("In a row of a single run, ± is the sample standard deviation of its networks.")
    if unequal := unequal_words(records):
        notes.append(unequal)
    notes += [*_rate_notes(records, networks), *unfinished_notes(records)]
    return Outcome(
        study="cross",
        title="Distilled images under other networks",
        question="Networks of other architectures trained on images that were distilled with one (paper: Table 2).",
        columns=shown(columns, rows),
        rows=rows,
        charts=[
            Chart(
                "Test accuracy",
                "",
                "accuracy, %",
                curves,
                names=list(networks),
                percent=True,
                spread=spread_words(groups),
            )
        ],
        notes=[*notes, *whole_notes(whole), *published_notes(records)],
        setting=shared_setting(records),
    )


def _rate_notes(records: Sequence[Record], networks: Sequence[str]) -> list[str]:
    """The rates that were chosen for each network, where they were."""
    found = []
    for network in networks:
        rates: dict[str, set[float]] = {}
        for record in records:
            for result in (record.test.get(network), record.random.get(network)):
                if result is None or result.lr is None:
                    continue
                if tunes_network(record.settings, result.subject, network):
                    rates.setdefault(result.subject, set()).add(result.lr)
        if rates:
            each = [f"{what} {' and '.join(f'{lr:.3g}' for lr in sorted(chosen))}" for what, chosen in rates.items()]
            found.append(f"{network} ({', '.join(each)})")
    return [f"Learning rates chosen on the held-out part: {'; '.join(found)}."] if found else []


def _within(events: Generator[Event, None, None], at: Progress) -> Generator[Event, None, None]:
    for event in events:
        yield event
        if isinstance(event, Progress) and event.stage == "evaluation" and event.total:
            yield replace(at, done=at.done + 0.95 * event.done / event.total)


def _setting(effective: EffectiveSettings, keys: Sequence[str]) -> dict[str, Any]:
    flat = effective.flat()
    always = ("dataset.name", "dataset.path", "dataset.zca", "network.name", "network.width", "network.depth", "seed")
    return {key: flat[key] for key in (*always, *keys)}

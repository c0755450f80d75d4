"""The exact gradient against the paper's: how far apart they point, and what that does to the accuracy.

Over T and the teacher epoch a student starts from: the cosine of dL/dimages, the ratio of their norms and the ratio
of dL/dstudent_lr, at the images a distillation starts with. Then two whole runs that differ in the gradient alone.
"""

import statistics
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.events import Event, Progress, StageFinished, StageStarted, stage_events
from engine.matching import MatchingGradient, Mode, matching_sweeps
from engine.methods.draws import draw_iteration
from engine.methods.teacher_init import init_state
from engine.runs.workspace import Workspace
from engine.runtime.generators import map_events, run_to_end
from engine.session.open_task import open_task
from engine.tools.studies.groups import PLAIN, Plan, drive_groups, row_of, shared_by, whole_row
from engine.tools.studies.members import STAGE, Member, shared_setting
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, Table, Value
from engine.tools.studies.points import Points
from engine.tools.studies.tables import (
    ACCURACY,
    DIFFERENCE,
    GAIN,
    OF_WHOLE,
    PACE,
    RANDOM,
    Study,
    against_first,
    count_column,
    mean_curve,
    notes_of,
    shown,
    spread_words,
)  # fmt: skip
from engine.training.labels import class_index, hard_labels
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers

DRAWS = 4
"""Iterations (trajectory, batches, augmentations) drawn for every T and start epoch."""

FIGURES = ("cosine", "norm_ratio", "student_lr_ratio")


def gradient(
    workspace: Workspace,
    name: str,
    ipc: int | None,
    steps: Sequence[int],
    epochs: Sequence[int],
    overrides: Sequence[str],
    plan: Plan = PLAIN,
) -> Study:
    """Measure both gradients over T and start epoch, then drive a run with each.

    Args:
        workspace: where teachers and runs are.
        name: of the study's folder, and prefix of its runs' names.
        ipc: images per class; None for the workspace's.
        steps: values of T; none for some up to `distill.steps`.
        epochs: start epochs; none for the first, the middle and the last that a distillation draws.
        overrides: `key=value` texts.
        plan: seeds of the runs, and whether the whole dataset is trained on.
    """
    settings = workspace.settings(ipc=ipc, overrides=tuple(overrides)).settings
    most, first, last = settings.distill.steps, settings.distill.min_start_epoch, settings.distill.max_start_epoch - 1
    chosen = sorted(set(steps or (1, max(1, most // 4), max(1, most // 2), most)))
    starts = sorted(set(epochs or (first, (first + last) // 2, last)))
    points = yield from _compared(workspace, workspace.folder / "studies" / name, settings, chosen, starts)
    rows: list[dict[str, Cell]] = [
        {"steps": count, "epoch": start, **points[count, start]} for start in starts for count in chosen
    ]
    count = settings.distill.ipc
    members = [
        Member(f"{name}-ipc-{count}-{mode}", mode, count, (f"distill.gradient={mode}",)) for mode in ("exact", "paper")
    ]
    groups, whole = yield from drive_groups(workspace, name, members, overrides, plan)
    notes = [
        f"cosine, norms and student_lr: paper against exact at the first images, mean ± sample standard deviation over "
        f"{DRAWS} drawn iterations; hard labels. A ratio of 1 and a cosine of 1 mean that the gradients are equal.",
    ]
    ends: list[dict[str, Cell]] = [
        {"gradient": group.member.label, **row_of(group, whole), **against_first(group, groups)} for group in groups
    ]
    ends += whole_row("gradient", whole, plan)
    after = [
        Column("gradient", "distill.gradient"), ACCURACY, DIFFERENCE, OF_WHOLE, RANDOM, GAIN, PACE, count_column(plan),
    ]  # fmt: skip
    curves = [mean_curve(group, best=False) for group in groups]
    iterations = groups[0].settings.distill.iterations
    return Outcome(
        study="gradient",
        title="The paper's gradient against the exact one",
        question="Eq. (6) of the paper leaves out that a student's parameters depend on the images of the steps "
        "before. What does that change?",
        columns=[
            Column("steps", "T", "count"), Column("epoch", "start epoch", "count"),
            Column("cosine", "cosine of dL/dimages", "ratio"), Column("norm_ratio", "norm, paper / exact", "ratio"),
            Column("student_lr_ratio", "dL/dstudent_lr, paper / exact", "ratio"),
            Column("loss", "matching loss", "number"),
        ],
        rows=rows,
        charts=[
            _chart("Cosine of the two image gradients", "cosine", "cosine", points, chosen, starts),
            _chart("dL/dstudent_lr, paper / exact", "ratio", "student_lr_ratio", points, chosen, starts),
            Chart("Held-out accuracy", "iteration", "accuracy, %", curves, percent=True, spread=spread_words(groups)),
        ],
        notes=[*notes, *notes_of(groups, plan, whole)],
        setting=shared_setting(shared_by(groups)),
        tables=[Table(f"After {iterations} iterations with each", shown(after, ends), ends)],
    )  # fmt: skip


def _chart(
    title: str, y_label: str, figure: str, points: dict[tuple[int, int], dict[str, Any]], steps: Sequence[int],
    starts: Sequence[int],
) -> Chart:  # fmt: skip
    curves = []
    for start in starts:
        values: list[Value] = [points[count, start][figure] for count in steps]
        curves.append(
            Curve(f"start epoch {start}", steps, [v.mean for v in values], [v.std or 0.0 for v in values])
        )  # fmt: skip
    curves.append(Curve("equal", [steps[0], steps[-1]], [1, 1], reference=True))
    return Chart(title, "matching steps T", y_label, curves, spread=f"standard deviation of {DRAWS} drawn iterations")


def _compared(
    workspace: Workspace, folder: Path, settings: Any, steps: Sequence[int], starts: Sequence[int]
) -> Generator[Event, None, dict[tuple[int, int], dict[str, Any]]]:
    """The figures of every T and start epoch, measured where they are not known."""
    task, buffer = yield from open_task(workspace, settings)
    buffer.open()
    yield from stage_events("teachers", train_teachers(task, buffer))
    # What the gradients depend on, without the settings for how a run continues.
    identity = {
        "teachers": buffer.identity, "count": settings.teachers.count, "seed": settings.seed, "draws": DRAWS,
        "distill": settings.distill.model_dump(
            include={"ipc", "batch", "teacher_epochs", "student_lr", "init", "max_start_epoch"}
        ),
    }  # fmt: skip
    kept = Points(folder, identity)
    total = len(steps) * len(starts)
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for number, (count, start) in enumerate((count, start) for count in steps for start in starts):
        key = f"steps-{count:04d}-epoch-{start:03d}"
        point = kept.get(key)
        if point is None:
            at = Progress(
                stage=STAGE, done=number, total=total, unit="measurements", detail=f"T = {count}, epoch {start}"
            )
            point = yield from _point(task, buffer, count, start, at)
            kept.put(key, point)
        values: dict[str, Any] = {
            name: Value(statistics.fmean(point[name]), statistics.stdev(point[name]), len(point[name]))
            for name in FIGURES
        }
        found[count, start] = {**values, "loss": statistics.fmean(point["loss"])}
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    return found


def _later(at: Progress, before: float, part: float) -> Callable[[float], Progress]:
    """The progress of a sweep that is a `part` of the study and has `before` done before it."""
    return lambda share: replace(at, done=before + share * part)


def _point(
    task: Task, buffer: TeacherBuffer, steps: int, start: int, at: Progress
) -> Generator[Event, None, dict[str, Any]]:
    """Both gradients for some drawn iterations with that many steps from that epoch."""
    settings = task.settings
    distill = settings.distill.model_copy(update={"steps": steps})
    task = replace(task, settings=settings.model_copy(update={"distill": distill}))
    images = run_to_end(init_state(task, buffer)).images
    labels = hard_labels(class_index(task.classes, distill.ipc).to(task.device), task.classes, task.dtype)
    network = task.flat_network()
    found: dict[str, list[float]] = {name: [] for name in (*FIGURES, "loss")}
    for number in range(DRAWS):
        draw = draw_iteration(task, number)
        rows = buffer.read(draw.trajectory, start, start + distill.teacher_epochs)
        theta, target = (row.to(task.device, task.dtype) for row in rows)
        both: dict[str, MatchingGradient] = {}
        modes: tuple[Mode, ...] = ("exact", "paper")
        for place, mode in enumerate(modes):
            sweeps = matching_sweeps(
                network, start=theta, target=target, images=images, labels=labels, student_lr=distill.student_lr,
                schedule=draw.schedule, mode=mode, seed=number,
            )  # fmt: skip
            before = at.done + (number + place / 2) / DRAWS
            both[mode] = yield from map_events(sweeps, _later(at, before, 1 / (2 * DRAWS)))
        exact, paper = both["exact"], both["paper"]
        cosine = torch.nn.functional.cosine_similarity(exact.images.flatten(), paper.images.flatten(), dim=0)
        found["cosine"].append(cosine.item())
        found["norm_ratio"].append((paper.images.norm() / exact.images.norm()).item())
        found["student_lr_ratio"].append((paper.student_lr / exact.student_lr).item())
        found["loss"].append(exact.loss.item())
    return found

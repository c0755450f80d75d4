"""DD-Ranking's two measures of distilled sets (Li et al., 2025): what is left without soft labels, and beside random.

Hard label recovery, HLR = acc(whole dataset, one-hot labels) - acc(set, one-hot labels): lower is better. Improvement
over random, IOR = acc(set, its own labels) - acc(random real images, labels made the same way): higher is better. Sets
are trained at a learning rate of their own. docs/judging.md lists what differs from the authors' code.
"""

import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.events import EvaluationDone, Event, Progress, StageFinished, StageStarted
from engine.methods.registry import method_of
from engine.methods.tesla_labels import MOST_SHIP
from engine.runs.run import Run
from engine.runs.selection import checkpoint_to_use
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.memory_hints import explain_out_of_memory
from engine.session.open_task import open_finished
from engine.session.session import evaluate_run
from engine.settings import EffectiveSettings, Settings
from engine.storage.atomic import sha256_file
from engine.tools.studies.groups import Group, by_seed, find_whole, gain_over, over_runs, own_teachers, whole_member
from engine.tools.studies.members import (
    STAGE,
    Member,
    Record,
    check_runs,
    drive_members,
    heading,
    read_record,
    shared_setting,
    value_of,
)  # fmt: skip
from engine.tools.studies.outcome import Cell, Column, Outcome, Value
from engine.tools.studies.points import Points
from engine.tools.studies.seeds import seeds_notes
from engine.tools.studies.tables import RUNS, Study, shown, spread_note, unfinished_notes, whole_notes
from engine.training.evaluation import BASELINE_LR, RATES, evaluate_distilled
from engine.training.labels import class_index, hard_labels, mean_labels
from engine.training.real_images import packed_images, random_real
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.training_set import SmallSet, TrainingSet, small_set

AtRate = Callable[[float], Callable[[int], TrainingSet]]
"""By learning rate and repeat, what a network is trained on."""


@dataclass(frozen=True)
class Ranked:
    """What is measured of one run."""

    record: Record
    hard: Value | None
    """The set with one-hot labels."""
    random: Value | None
    """Random real images with labels made as the set's."""
    random_labels: str
    """How."""


def ranking(
    workspace: Workspace, name: str, runs: Sequence[Run], overrides: Sequence[str], whole: bool = True
) -> Study:
    """Hard label recovery and improvement over random of runs.

    Args:
        workspace: of the runs.
        name: of the study.
        runs: finished, or with a checkpoint.
        overrides: `key=value` texts of the evaluations.
        whole: train networks on the whole dataset if no run has.

    Raises:
        UsageError: no runs.
    """
    check_runs(workspace, runs)
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    found: list[Ranked] = []
    for number, run in enumerate(runs):
        at = Progress(stage=STAGE, done=number, total=len(runs), unit="runs", detail=run.name)
        yield at
        yield heading(run, "ranking", number, len(runs), finished=False)
        settings = workspace.settings(overrides=tuple(overrides), run=run).settings
        yield from evaluate_run(workspace, run, settings, None, [settings.network.name])
        found.append((yield from _ranked(workspace, name, run, settings, at)))
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    upper = find_whole(workspace, found[0].record.settings)
    if upper is None and whole:
        (upper,) = yield from drive_members(workspace, [_whole_beside(name, found[0].record.settings)], overrides)
    groups = by_seed([one.record for one in found])
    rows = _rows(found, groups, upper)
    several = max(int(str(row["n"])) for row in rows)
    networks = max((one.record.accuracy.count for one in found if one.record.accuracy), default=1)
    columns = [
        Column("run", "run"), Column("method", "method"), Column("ipc", "IPC", "count"), Column("labels", "labels"),
        Column("accuracy", "test accuracy, %", "percent"), Column("random", "random, labelled alike, %", "percent"),
        Column("ior", "IOR", "gain"), Column("hard", "one-hot labels, %", "percent"),
        Column("whole", "whole dataset, %", "percent"), Column("hlr", "HLR (lower is better)", "gain"), RUNS,
    ]  # fmt: skip
    labelled = sorted({one.random_labels for one in found})
    notes = [
        "IOR: accuracy minus that of random real images. HLR: the whole dataset minus the set with one-hot labels. "
        "Both in points of accuracy (DD-Ranking, Li et al., 2025).",
        f"Learning rates: the run's own for its set; for the others that of {', '.join(map(str, RATES))} (for the set "
        "with one-hot labels also the run's own) with the best held-out accuracy. Tested once, after the last epoch.",
        f"Labels of random real images: {'; '.join(labelled)}.",
    ]
    notes += (
        [spread_note(networks)]
        if several == 1
        else seeds_notes([len(group.records) for group in groups], own_teachers(groups))
    )
    notes += unfinished_notes([one.record for one in found])
    notes += whole_notes(upper)
    if upper is None:
        notes.append("HLR needs a run on the whole dataset: leave out --no-whole.")
    return Outcome(
        study="ranking",
        title="DD-Ranking's measures",
        question="How much of the whole dataset is recovered with one-hot labels, and how much is gained over random "
        "real images that are labelled the same way?",
        columns=shown(columns, rows),
        rows=rows,
        notes=notes,
        setting=shared_setting([one.record for one in found]),
    )


def _rows(found: Sequence[Ranked], groups: Sequence[Group], upper: Record | None) -> list[dict[str, Cell]]:
    by_name = {one.record.run.name: one for one in found}
    most = upper.accuracy if upper else None
    rows: list[dict[str, Cell]] = []
    for group in groups:
        ranked = [by_name[record.run.name] for record in group.records]
        ours, hard = [record.accuracy for record in group.records], [one.hard for one in ranked]
        random = [one.random for one in ranked]
        rows.append({
            "run": group.member.label, "method": group.settings.distill.method, "ipc": group.settings.distill.ipc,
            "labels": group.settings.labels.kind, "accuracy": over_runs(ours), "random": over_runs(random),
            "ior": gain_over(ours, random), "hard": over_runs(hard), "whole": None if most is None else most.mean,
            "hlr": gain_over([most] * len(hard), hard), "n": len(ranked),
        })  # fmt: skip
    return rows


def _whole_beside(name: str, settings: Settings) -> Member:
    """The run on the whole dataset with the images and the network of these settings."""
    member = whole_member(name, settings.distill.ipc)
    flat = EffectiveSettings(settings, {}).flat()
    parts = ("dataset.", "network.", "augment.", "evaluate.augment", "compute.")
    same = [f"{k}={json.dumps(v)}" for k, v in flat.items() if k.startswith(parts) and v is not None]
    return Member(member.name, member.label, member.ipc, (*same, *member.overrides), member.leaves)


def _ranked(
    workspace: Workspace, name: str, run: Run, settings: Settings, at: Progress
) -> Generator[Event, None, Ranked]:
    """Measure what is not known of one run."""
    task, buffer = yield from explain_out_of_memory(open_finished(workspace, settings), None)
    iteration = checkpoint_to_use(run, run.frozen().settings, None)
    record = read_record(run, settings)
    state = method_of(settings).restore_state(*run.load_checkpoint(iteration), task)
    index = class_index(task.classes, settings.distill.ipc, task.device)
    hard = hard_labels(index, task.classes, task.dtype)
    kept = Points(workspace.folder / "studies" / name, {
        "checkpoint": sha256_file(run.checkpoint_path(iteration)), "dataset": task.dataset.fingerprint,
        "settings": settings.model_dump(mode="json", exclude={"compute"}), "rates": RATES, "buffer": buffer.identity,
    })  # fmt: skip

    def synthetic(rate: float) -> Callable[[int], TrainingSet]:
        one = small_set(SmallSet(state.images, hard, rate), task.decoder)
        return lambda _: one

    own = state.student_lr.item()
    one_hot = yield from _tuned(task, kept, "one-hot", own, (own, *RATES), synthetic)
    if not _labelled(settings):
        return Ranked(record, one_hot, record.baseline, "one-hot")
    sets: list[tuple[Any, Any]] = []
    repeats = max(settings.evaluate.repeats, settings.evaluate.selection_repeats)
    for repeat in range(repeats if kept.get("random-test") is None else 0):
        yield at
        images = packed_images(task, random_real(task, settings.distill.ipc, "baseline", repeat))
        sets.append((images, teacher_labels(task, buffer, images)))

    def drawn(rate: float) -> Callable[[int], TrainingSet]:
        return lambda repeat: SmallSet(*sets[repeat], rate)

    random = yield from _tuned(task, kept, "random", BASELINE_LR, RATES, drawn)
    which = "at the target epochs" if settings.labels.kind == "target" else "at their last epoch"
    return Ranked(record, one_hot, random, f"the teachers' mean {which} ({run.name})")


def _labelled(settings: Settings) -> bool:
    """Whether random real images are labelled by the teachers: where the set has soft labels that they know."""
    soft = settings.labels.kind in ("target", "last", "learned")
    return soft and settings.needs_teachers and settings.distill.formation == 1


def teacher_labels(task: Task, buffer: TeacherBuffer, images: Any) -> Any:
    """The mean of the teachers' probabilities `(N, K)` for real images, at the epochs that label the set."""
    settings = task.settings
    epochs = settings.target_epochs if settings.labels.kind == "target" else [settings.trained_epochs]
    every = [(trajectory, epoch) for epoch in epochs for trajectory in range(settings.teachers.count)]
    count = min(len(every), MOST_SHIP)
    thetas = (buffer.read(*every[i * len(every) // count])[0] for i in range(count))
    return run_to_end(mean_labels(task.flat_network(), thetas, images))


def _tuned(
    task: Task, kept: Points, key: str, best: float, rates: Sequence[float], make: AtRate
) -> Generator[Event, None, Value | None]:
    """Test accuracy at the rate with the best held-out accuracy (`best` without a held-out part); each is kept."""
    settings, network = task.settings.evaluate, task.network_name

    def measured(point: str, rate: float, split: str, repeats: int) -> Generator[Event, None, EvaluationDone]:
        known = kept.get(point)
        if known is None:
            evaluation = evaluate_distilled(
                task, make(rate), iteration=0, split=split, network=network, repeats=repeats
            )
            known = asdict((yield from explain_out_of_memory(evaluation, task)))
            kept.put(point, known)
        return EvaluationDone(**known)

    if len(task.holdout) and kept.get(f"{key}-test") is None:
        held = {}
        for rate in dict.fromkeys(rates):
            point = f"{key}-holdout-{rate:.6g}"
            held[rate] = (yield from measured(point, rate, "holdout", settings.selection_repeats)).mean
        best = max(held, key=held.__getitem__)
    return value_of((yield from measured(f"{key}-test", best, "test", settings.repeats)))

"""The runs of a study: driven one after the other, each an ordinary run of the workspace, then read."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import UsageError, tesla
from engine.events import EvaluationDone, Event, Notice, Progress, StageFinished, StageStarted
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.selection import selected_iteration
from engine.runs.status import is_finished
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings import EffectiveSettings, Settings
from engine.settings.overrides import parse_override
from engine.tools.studies.outcome import Curve, Value

STAGE = "study"


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    name: str
    """Of the run."""
    label: str
    """In the table."""
    ipc: int | None = None
    overrides: tuple[str, ...] = ()
    leaves: frozenset[str] = frozenset()
    """Keys whose shared overrides do not apply to it: its method decides them."""


@dataclass(frozen=True)
class Record:
    """What a study reads of a run."""

    run: Run
    settings: Settings
    test: Mapping[str, EvaluationDone]
    """Test accuracy of the selected checkpoint, by network."""
    random: Mapping[str, EvaluationDone]
    """Of random real images at the same IPC, measured the same way."""
    holdout: Sequence[tuple[int, float]]
    """Held-out accuracy by iteration."""
    student_lr: Sequence[tuple[int, float]]
    """By iteration, at most a few hundred points."""
    seconds_per_iteration: float | None
    """Median."""
    skipped: int
    """Iterations skipped for bad numbers."""

    @property
    def accuracy(self) -> Value | None:
        """Test accuracy with the run's own network."""
        return value_of(self.test.get(self.settings.network.name))

    @property
    def baseline(self) -> Value | None:
        """Of random real images, measured the same way."""
        return value_of(self.random.get(self.settings.network.name))


def value_of(result: EvaluationDone | None) -> Value | None:
    """An evaluation as a value."""
    if result is None:
        return None
    count = len(result.accuracies)
    return Value(result.mean, result.std if count > 1 else None, count)


def drive_members(
    workspace: Workspace, members: Sequence[Member], overrides: Sequence[str]
) -> Generator[Event, None, list[Record]]:
    """Drive the runs that are not finished, and read all of them.

    Args:
        workspace: where the runs are.
        members: the runs; each one's own overrides come after the shared ones.
        overrides: `key=value` texts for all of them.

    Raises:
        UsageError: settings that are wrong, or a run of that name that was started with others. Before anything runs.
        TeslaError: see `drive`.
    """
    planned = planned_runs(workspace, members, overrides)
    began = time.monotonic()
    yield StageStarted(stage=STAGE)
    records = []
    for number, (member, (run, effective)) in enumerate(zip(members, planned, strict=True)):
        at = Progress(stage=STAGE, done=number, total=len(members), unit="runs", detail=member.label)
        yield at
        finished = is_finished(run, effective)
        yield heading(run, member.label, number, len(members), finished)
        if finished:
            run.sweep()
        else:
            yield from _within(drive(workspace, run, effective), at)
        records.append(read_record(run))
    yield StageFinished(stage=STAGE, seconds=time.monotonic() - began)
    return records


def planned_runs(
    workspace: Workspace, members: Sequence[Member], overrides: Sequence[str]
) -> list[tuple[Run, EffectiveSettings]]:
    """The runs of members and their settings, checked against those that exist.

    Raises:
        UsageError: settings that are wrong, or a run of that name that was started with others.
    """
    planned: list[tuple[Run, EffectiveSettings]] = []
    for member in members:
        run = workspace.run(member.name)
        shared = [text for text in overrides if parse_override(text)[0] not in member.leaves]
        effective = workspace.settings(ipc=member.ipc, overrides=(*shared, *member.overrides), run=run)
        if run.exists:
            run.check(effective)
        planned.append((run, effective))
    return planned


def check_runs(workspace: Workspace, runs: Sequence[Run]) -> None:
    """Check that there are runs to study.

    Raises:
        UsageError: there are none.
    """
    if not runs:
        raise UsageError(
            f"{workspace.folder} has no run with a checkpoint yet.",
            f"Start one with: {tesla('run', workspace.folder, '--ipc', 10)}",
        )


def heading(run: Run, label: str, number: int, count: int, finished: bool) -> Notice:
    """The notice before a run."""
    words = f"Run {number + 1} of {count}: {run.name} ({label})"
    return Notice(level="info", message=f"{words}: already finished" if finished else words)


def _within(events: Generator[Event, None, None], at: Progress) -> Generator[Event, None, None]:
    """The events of a run, and the progress of the study that they make."""
    share = 0.0
    for event in events:
        yield event
        if isinstance(event, Progress) and event.stage == "distillation" and event.total:
            now = 0.95 * event.done / event.total
            if now - share >= 0.01:
                share = now
                yield replace(at, done=at.done + share)


MOST = 400
"""Points of a curve."""


def read_record(run: Run, measured: Settings | None = None) -> Record:
    """Read a run from its files. Results are those of the settings `measured` (None: of its own).

    Raises:
        TeslaError: its settings are damaged.
    """
    own = run.frozen().settings
    settings = measured or own
    results, held = run.evaluations(settings), run.evaluations(own)
    selected = selected_iteration(run, own)
    history = read_history(run)
    rates = history.student_lr.points()
    curve = list(zip(rates.x.tolist(), rates.mean.tolist(), strict=True))
    thin = max(1, len(curve) // MOST)
    tests = [result for result in results if result.split == "test"]
    return Record(
        run=run,
        settings=settings,
        test={r.network: r for r in tests if r.subject == "distilled" and r.iteration == selected},
        random={r.network: r for r in tests if r.subject == "random"},
        holdout=sorted((r.iteration, r.mean) for r in held if r.subject == "distilled" and r.split == "holdout"),
        student_lr=[point for number, point in enumerate(curve) if number % thin == 0 or number == len(curve) - 1],
        seconds_per_iteration=history.costs.iterations.median,
        skipped=history.skipped,
    )  # fmt: skip


def best_so_far(record: Record, label: str) -> Curve:
    """The highest held-out accuracy until each iteration, as the paper's Figure 4 draws it."""
    best, heights = 0.0, []
    for _, accuracy in record.holdout:
        best = max(best, accuracy)
        heights.append(best)
    return Curve(label, [iteration for iteration, _ in record.holdout], heights)


def shared_setting(records: Sequence[Record]) -> dict[str, Any]:
    """The settings that all runs of a study share, by dotted key, of those that a reader of the table needs."""
    keys = (
        "dataset.name", "dataset.path", "dataset.resolution", "dataset.zca", "dataset.holdout", "network.name",
        "network.width", "network.depth", "teachers.count", "teachers.epochs", "distill.method", "distill.ipc",
        "distill.iterations", "distill.steps", "distill.teacher_epochs", "distill.min_start_epoch",
        "distill.max_start_epoch", "distill.current_max_start_epoch", "distill.batch", "distill.init",
        "distill.gradient", "labels.kind", "evaluate.epochs", "evaluate.repeats", "seed",
    )  # fmt: skip
    flats = [EffectiveSettings(record.settings, {}).flat() for record in records]
    seeds = list(dict.fromkeys(flat["seed"] for flat in flats))
    several = {"seeds": ", ".join(map(str, seeds))} if len(seeds) > 1 else {}
    shared = {key: flats[0][key] for key in keys if flats and all(flat.get(key) == flats[0][key] for flat in flats)}
    return {**shared, **several}

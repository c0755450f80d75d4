"""The state of a run in one object, read from its files only: while another process drives it, and without PyTorch."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.errors import TeslaError, system_reason
from engine.events import EvaluationDone, TeachersMeasured
from engine.runs.heartbeat import crash_description
from engine.runs.history import RunHistory, read_history
from engine.runs.judgement import Outcome, outcomes
from engine.runs.liveness import liveness
from engine.runs.run import Run
from engine.runs.selection import is_unimproved, selected_iteration
from engine.settings import EffectiveSettings
from engine.storage.reading import exists


@dataclass(frozen=True)
class RunStatus:
    """What is known about a run; None if not known yet."""

    name: str
    state: str
    """`running`, `paused`, `stalled` (its driver is alive but makes no progress, or is silent), `stopped`, `failed`,
    `finished`, `imported` (a set made elsewhere), `interrupted` (its driver crashed or was killed), or `broken` (its
    files cannot be read: see `read_statuses`)."""
    stage: str
    """`teachers`, `distillation`, `evaluation` or `done`."""
    dataset: str
    ipc: int
    method: str
    gradient: str
    labels: str
    iteration: int
    """The last one reported, done or skipped; after a kill it may be ahead of the newest checkpoint."""
    iterations: int
    loss: float | None
    """Mean matching loss of the last reported iterations (at most 50)."""
    student_lr: float | None
    selected: int | None
    """Iteration of the checkpoint with the best held-out accuracy."""
    unimproved: bool
    """It is the one before the first update: no later one is better."""
    holdout: float | None
    """Its held-out accuracy, 0..1."""
    test: tuple[EvaluationDone, ...]
    """Test accuracies of the selected checkpoint, one per network."""
    random: tuple[EvaluationDone, ...]
    """Random real images at the same IPC, measured the same way."""
    outcomes: tuple[Outcome, ...]
    """What was gained over them with each network, with its interval."""
    teachers: TeachersMeasured | None
    """How good the teachers are."""
    teachers_done: int
    teachers_total: int
    skipped: int
    """Iterations skipped for bad numbers; repeated ones count once."""
    recoveries: int
    seconds_per_iteration: float | None
    compiling: bool
    """It compiles, or is in the iteration it compiled for: the time left is not known yet."""
    eta: float | None
    """Seconds of distillation left, evaluations included, while it runs."""
    peak_bytes: int | None
    """Greatest resident memory of its driver."""
    peak_device_bytes: int | None
    """Most that PyTorch took of its CUDA device."""
    updated: float
    """When the journal was last written, seconds since 1970."""
    message: str
    """The error of a failed or broken run; how the driver of an interrupted one ended."""

    @property
    def finished(self) -> bool:
        """Everything in its settings is done."""
        return self.state == "finished"


def read_state(run: Run, history: RunHistory, live: str, tested: bool = True) -> str:
    """The state of a run, as in `RunStatus.state`; `new` if it was never started.

    Args:
        run: the run.
        history: its journal.
        live: its `liveness`.
        tested: whether its test accuracy is on disk; unset, the journal is trusted.
    """
    if live:
        return live
    if not run.exists:
        return "new"
    if exists(run.origin_file):
        return "imported"
    if history.ending == "finished":
        done = tested and history.iteration >= history.iterations
        return "finished" if done else "stopped"  # its settings now ask for more, or its test was lost
    return "interrupted" if history.open else history.ending or "stopped"


def run_status(run: Run) -> RunStatus:
    """Read a run's settings, journal, checkpoints and evaluations.

    Raises:
        TeslaError: its settings are damaged.
    """
    settings, history = run.frozen().settings, read_history(run)
    selected, results = selected_iteration(run, settings), run.evaluations(settings)
    ours = [result for result in results if result.subject == "distilled" and result.iteration == selected]
    test = tuple(result for result in ours if result.split == "test")
    state = read_state(run, history, liveness(run), bool(test))
    unimproved = is_unimproved(run, settings, selected)
    random = tuple(result for result in results if result.split == "test" and result.subject == "random")
    total = 0 if exists(run.origin_file) else settings.distill.iterations
    asked = settings.teachers.count if settings.needs_teachers and state != "imported" else 0
    teachers = history.plan.count if history.plan else asked
    stage = _stage(state, history.teachers_done < teachers, history.iteration < total)
    message = {"failed": history.failure, "interrupted": crash_description(run.heartbeat_file)}.get(state, "")
    return RunStatus(
        name=run.name,
        state=state,
        stage=stage,
        dataset=settings.dataset.path or settings.dataset.name,
        ipc=settings.distill.ipc,
        method=settings.distill.method,
        gradient=settings.distill.gradient,
        labels=settings.labels.kind,
        iteration=history.iteration,
        iterations=total,
        loss=history.recent_loss,
        student_lr=history.student_lr.latest,
        selected=selected,
        unimproved=unimproved,
        holdout=next((result.mean for result in ours if result.split == "holdout"), None),
        test=test,
        random=random,
        outcomes=outcomes(test, random, unimproved=unimproved),
        teachers=history.teachers,
        teachers_done=history.teachers_done,
        teachers_total=teachers,
        skipped=history.skipped,
        recoveries=history.recoveries,
        seconds_per_iteration=history.pace,
        compiling=state == "running" and history.compiling,
        eta=history.eta if state == "running" and stage == "distillation" else None,
        peak_bytes=history.costs.peak_bytes,
        peak_device_bytes=history.costs.peak_device_bytes,
        updated=run.last_change,
        message=message,
    )


def is_finished(run: Run, effective: EffectiveSettings) -> bool:
    """Whether nothing is left to do for these settings: its own, and it is finished."""
    return run.exists and run.frozen().settings == effective.settings and run_status(run).finished


def read_statuses(runs: Sequence[Run]) -> list[RunStatus]:
    """The status of each run; one that cannot be read is `broken`, and its message says why: the others are shown."""
    found = []
    for run in runs:
        try:
            found.append(run_status(run))
        except (TeslaError, OSError) as error:
            said = error.message if isinstance(error, TeslaError) else f"{run.folder}: {system_reason(error)}."
            hint = error.hint if isinstance(error, TeslaError) else ""
            found.append(_broken(run, f"{said} {hint}".strip()))
    return found


def _broken(run: Run, message: str) -> RunStatus:
    updated = 0.0
    with suppress(OSError):
        updated = run.last_change
    return RunStatus(
        name=run.name, state="broken", stage="", dataset="", ipc=0, method="", gradient="", labels="", iteration=0,
        iterations=0, loss=None, student_lr=None, selected=None, unimproved=False, holdout=None, test=(), random=(),
        outcomes=(), teachers=None, teachers_done=0, teachers_total=0, skipped=0, recoveries=0,
        seconds_per_iteration=None, compiling=False, eta=None, peak_bytes=None, peak_device_bytes=None,
        updated=updated, message=message,
    )  # fmt: skip


def _stage(state: str, teachers_missing: bool, iterations_missing: bool) -> str:
    if state in ("finished", "imported"):
        return "done"
    if teachers_missing:
        return "teachers"
    return "distillation" if iterations_missing else "evaluation"

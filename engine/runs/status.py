"""One glance at a run, from its files alone: works while somebody else drives it, and without loading PyTorch."""

from collections import deque
from dataclasses import dataclass

from engine.events import (
    EvaluationDone,
    IterationDone,
    IterationSkipped,
    RunFailed,
    RunFinished,
    RunRecovered,
    RunStarted,
    RunStopped,
    TeacherPublished,
    TeachersPlanned,
)
from engine.runs.heartbeat import crash_description
from engine.runs.journal import read_journal
from engine.runs.liveness import liveness
from engine.runs.run import Run, selected_iteration

PACE_OVER = 20
"""Iterations that loss and pace are the mean of."""


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run; None where it is not known yet."""

    name: str
    state: str
    """`running`, `paused`, `stalled` (its driver lives but makes no progress, or gives no sign), `stopped`, `failed`,
    `finished`, `imported` (a set made elsewhere), or `interrupted` (its driver crashed or was killed)."""
    stage: str
    """`teachers`, `distillation`, `evaluation` or `done`."""
    dataset: str
    ipc: int
    method: str
    gradient: str
    labels: str
    iteration: int
    """Iterations saved or reported, whichever is further."""
    iterations: int
    loss: float | None
    """Mean matching loss of the last reported iterations (at most 20)."""
    student_lr: float | None
    selected: int | None
    """Iteration of the checkpoint with the best held-out accuracy."""
    holdout: float | None
    """Its held-out accuracy, 0..1."""
    test: tuple[EvaluationDone, ...]
    """Test accuracies of the selected checkpoint, one per network."""
    random: tuple[EvaluationDone, ...]
    """Random real images at the same IPC, measured likewise."""
    teachers_done: int
    teachers_total: int
    skipped: int
    """Iterations skipped for bad numbers, since the run began."""
    recoveries: int
    seconds_per_iteration: float | None
    eta: float | None
    """Seconds of distillation left, while it runs."""
    updated: float
    """When the journal was last written, seconds since 1970."""
    message: str
    """The error of a failed run; how the driver of an interrupted one ended."""

    @property
    def finished(self) -> bool:
        """Everything its settings ask for is done."""
        return self.state == "finished"


def run_status(run: Run) -> RunStatus:
    """Read a run's settings, journal, checkpoints and evaluations.

    Raises:
        TeslaError: its settings are damaged.
    """
    settings = run.frozen().settings
    losses: deque[float] = deque(maxlen=PACE_OVER)
    seconds: deque[float] = deque(maxlen=PACE_OVER)
    iteration = max(run.checkpoints(), default=0)
    student_lr = None
    state, message = "stopped", ""
    planned, published = (settings.teachers.count if settings.needs_teachers else 0), 0
    skipped = recoveries = 0
    for entry, _ in read_journal(run.journal_file):
        event = entry.event
        if isinstance(event, RunStarted):
            state, message = "interrupted", ""
            losses.clear()
            seconds.clear()
        elif isinstance(event, IterationDone):
            losses.append(event.loss)
            seconds.append(event.seconds)
            student_lr = event.student_lr
        elif isinstance(event, IterationSkipped):
            skipped += 1
        elif isinstance(event, RunRecovered):
            recoveries += 1
            student_lr = event.student_lr
        elif isinstance(event, TeachersPlanned):
            planned, published = event.count, event.count - event.missing
        elif isinstance(event, TeacherPublished):
            published += 1
        elif isinstance(event, RunStopped):
            state = "stopped"
        elif isinstance(event, RunFailed):
            state, message = "failed", event.message
        elif isinstance(event, RunFinished):
            state = "finished"
        if isinstance(event, IterationDone) and state == "interrupted":
            iteration = max(iteration, event.iteration)
    live = liveness(run)
    selected = selected_iteration(run, settings)
    results = run.evaluations(settings)
    holdout = [r for r in results if r.split == "holdout" and r.subject == "distilled" and r.iteration == selected]
    test = tuple(r for r in results if r.split == "test" and r.subject == "distilled" and r.iteration == selected)
    random = tuple(r for r in results if r.split == "test" and r.subject == "random")
    total = 0 if run.origin_file.exists() else settings.distill.iterations
    if live:
        state = live
    elif run.origin_file.exists():
        state, planned = "imported", published
    elif state == "finished" and (iteration < total or not test):
        state = "stopped"  # its settings ask for more by now
    elif state == "interrupted":
        message = crash_description(run.heartbeat_file)
    pace = sum(seconds) / len(seconds) if seconds else None
    if state in ("finished", "imported"):
        stage = "done"
    elif published < planned:
        stage = "teachers"
    else:
        stage = "distillation" if iteration < total else "evaluation"
    return RunStatus(
        name=run.name,
        state=state,
        stage=stage,
        dataset=settings.dataset.path or settings.dataset.name,
        ipc=settings.distill.ipc,
        method=settings.distill.method,
        gradient=settings.distill.gradient,
        labels=settings.labels.kind,
        iteration=iteration,
        iterations=total,
        loss=sum(losses) / len(losses) if losses else None,
        student_lr=student_lr,
        selected=selected,
        holdout=holdout[0].mean if holdout else None,
        test=test,
        random=random,
        teachers_done=published,
        teachers_total=planned,
        skipped=skipped,
        recoveries=recoveries,
        seconds_per_iteration=pace,
        eta=pace * (total - iteration) if live == "running" and pace and stage == "distillation" else None,
        updated=run.last_change,
        message=message,
    )

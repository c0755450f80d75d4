"""A run as its journal tells it: the fold of all events into what a screen shows, in bounded memory."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine import events as ev
from engine.events import event_from_json
from engine.storage.untrusted import moment, whole_number
from tesla_tui.watch.log import LogLine, log_line
from tesla_tui.watch.series import Series

MOST_LINES = 5000
"""Lines of the log that are kept for searching."""
MOST_EVALUATIONS = 2000
PACE_OVER = 50
"""Iterations the pace is measured over."""
ITERATION = "IterationDone"


@dataclass
class RunView:
    """Everything the screens know of a run. `fold` keeps it up to date."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Effective settings of the last start, flat."""
    environment: dict[str, Any] = field(default_factory=dict)
    data: ev.DataReady | None = None
    plan: ev.TeachersPlanned | None = None
    published: set[int] = field(default_factory=set)
    """Trajectories this run saw being published."""
    stage: str = ""
    """`teachers`, `distillation`, `evaluation` or empty before and after."""
    distilling: bool = False
    """Inside distillation, also while it evaluates in between."""
    iteration: int = 0
    iterations: int = 0
    loss: Series = field(default_factory=Series)
    student_lr: Series = field(default_factory=Series)
    gradient_norm: Series = field(default_factory=Series)
    evaluations: dict[tuple[object, ...], ev.EvaluationDone] = field(default_factory=dict)
    """By (iteration, subject, split, network), then the protocol as it was when they were measured."""
    checkpoints: int | None = None
    """Iteration of the newest checkpoint the journal tells of."""
    skipped: int = 0
    recoveries: int = 0
    ending: str = ""
    """`stopped`, `failed` or `finished` once the last driver said so; empty while it has not."""
    failure: str = ""
    started: float | None = None
    """When the first driver began, seconds since 1970."""
    drives: list[list[float]] = field(default_factory=list)
    """Beginning and last sign of every drive, seconds since 1970."""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=PACE_OVER))
    """Of the last iterations."""
    evaluation_seconds: float | None = None
    """Of the last evaluation between iterations."""
    paused: bool = False
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    events: int = 0
    """Journal lines folded; grows with everything new."""

    @property
    def names(self) -> list[str]:
        """Names of the classes; empty for journals that do not tell."""
        return self.data.names if self.data else []

    @property
    def pace(self) -> float | None:
        """Seconds an iteration takes, lately."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else None

    @property
    def eta(self) -> float | None:
        """Seconds of distillation left, evaluations included."""
        if self.pace is None or self.iteration >= self.iterations:
            return None
        every = self.settings.get("evaluate.every")
        every = every if whole_number(every) and every > 0 else 0
        left = self.iterations - self.iteration
        evaluations = (self.iterations // every - self.iteration // every) if every else 0
        return self.pace * left + (self.evaluation_seconds or 0.0) * evaluations

    def driven_seconds(self, now: float | None = None) -> float | None:
        """How long it has been driven in all; `now`: it still is. None if it never was."""
        if not self.drives:
            return None
        if now is not None:
            self.drives[-1][1] = now
        return sum(end - begin for begin, end in self.drives)

    def held_out(self) -> list[ev.EvaluationDone]:
        """Held-out accuracies of the distilled images by iteration."""
        return sorted(self._own("holdout", "distilled"), key=lambda e: e.iteration)

    def baseline(self) -> ev.EvaluationDone | None:
        """Random real images: on the held-out part if measured, else on the test part."""
        return next(iter([*self._own("holdout", "random"), *self._own("test", "random")]), None)

    def tests(self) -> list[ev.EvaluationDone]:
        """Test accuracies, the random baseline of a network before its distilled ones."""
        found = [*self._own("test", "random"), *self._own("test", "distilled")]
        return sorted(found, key=lambda e: (e.network, e.subject != "random", e.iteration))

    def _own(self, split: str, subject: str) -> list[ev.EvaluationDone]:
        """Of the protocol of the last start: accuracies of different protocols are not to be compared."""
        protocol = self._protocol(split)
        found = [(key, e) for key, e in self.evaluations.items() if e.split == split and e.subject == subject]
        return [e for key, e in found if key[4:] == protocol]

    def _protocol(self, split: str) -> tuple[object, ...]:
        repeats = "repeats" if split == "test" else "selection_repeats"
        keys = ("epochs", "whole_epochs", "augment", repeats)
        return tuple(repr(self.settings.get(f"evaluate.{key}")) for key in keys)

    def best(self) -> ev.EvaluationDone | None:
        """The best held-out accuracy so far."""
        return max(self.held_out(), key=lambda e: (e.mean, e.iteration), default=None)

    def fold(self, values: Iterable[dict[str, Any]]) -> None:
        """Take in journal lines, in order. Iterations are taken in a batch: there may be a hundred thousand."""
        batch: list[dict[str, Any]] = []
        for value in values:
            self.events += 1
            if value.get("kind") == ITERATION:
                batch.append(value)
                continue
            self._take(batch)
            batch = []
            event = event_from_json(value)
            if event is not None:
                time = value.get("time")
                self._see(event, float(time) if moment(time) else 0.0)
        self._take(batch)

    def _take(self, batch: list[dict[str, Any]]) -> None:
        if not batch:
            return
        try:
            if not all(event_from_json(value) for value in batch):
                raise ValueError("a line that is not what it says")
            x = [value["iteration"] for value in batch]
            self.loss.extend(x, [value["loss"] for value in batch])
            self.student_lr.extend(x, [value["student_lr"] for value in batch])
            self.gradient_norm.extend(x, [value["gradient_norm"] for value in batch])
            self.seconds.extend([float(value["seconds"]) for value in batch[-PACE_OVER:]])
            self.iteration, self.iterations = int(x[-1]), int(batch[-1]["iterations"])
        except (KeyError, TypeError, ValueError, OverflowError):
            if len(batch) > 1:  # one line of them is not what it says; find it by taking them one by one
                for value in batch:
                    self._take([value])
            return
        self.stage, self.distilling, self.ending = "distillation", True, ""
        if self.drives and moment(time := batch[-1].get("time")):
            self.drives[-1][1] = float(time)

    def _see(self, event: ev.Event, time: float) -> None:
        line = log_line(event, time)
        if line is not None:
            self.log.append(line)
        if isinstance(event, ev.RunStarted):
            self.drives = [*self.drives[-999:], [time, time]]
        elif self.drives:
            self.drives[-1][1] = time
        match event:
            case ev.RunStarted():
                self.settings, self.environment = event.settings, event.environment
                asked = event.settings.get("distill.iterations")
                given = event.settings.get("labels.kind") == "given"  # an imported set, which is not iterated
                self.iterations = asked if whole_number(asked) and not given else 0
                self.ending, self.failure, self.stage, self.paused, self.distilling = "", "", "", False, False
                self.started = time if self.started is None else self.started
                self.seconds.clear()
                self._rewind(event.resumed_from or 0)
            case ev.DataReady():
                self.data = event
            case ev.TeachersPlanned():
                self.plan = event
                self.published.clear()
            case ev.TeacherPublished():
                self.published.add(event.trajectory)
            case ev.StageStarted():
                self.stage = event.stage
                self.distilling |= event.stage == "distillation"
            case ev.StageFinished():
                if event.stage == "distillation":
                    self.distilling = False
                if event.stage == "evaluation" and self.distilling:
                    self.evaluation_seconds = event.seconds
                self.stage = "distillation" if self.distilling else ""
            case ev.IterationSkipped():
                self.skipped += 1
                self.iteration = event.iteration
            case ev.RunRecovered():
                self.recoveries += 1
            case ev.CheckpointSaved():
                self.checkpoints = event.iteration
            case ev.EvaluationDone():
                if len(self.evaluations) < MOST_EVALUATIONS:
                    key = (event.iteration, event.subject, event.split, event.network, *self._protocol(event.split))
                    self.evaluations[key] = event
            case ev.RunPaused() | ev.RunResumed():
                self.paused = isinstance(event, ev.RunPaused)
            case ev.RunStopped():
                self.ending, self.stage, self.checkpoints = "stopped", "", event.iteration or self.checkpoints
            case ev.RunFailed():
                self.ending, self.stage, self.failure = "failed", "", event.message
            case ev.RunFinished():
                self.ending, self.stage = "finished", ""

    def _rewind(self, iteration: int) -> None:
        """A driver died past its last checkpoint, and the next resumes from there."""
        for series in (self.loss, self.student_lr, self.gradient_norm):
            series.cut(iteration)
        self.iteration = iteration

"""What a run's journal says about it: the only fold of its events, in bounded memory and without PyTorch.

Status, screens, studies, tracking and the report all read it. Its rules:

* Repeated work counts once, the later. A driver that was killed had reported more iterations than its last
  checkpoint holds, and the next driver repeats them. `RunStarted.resumed_from` says where it resumes; where that
  checkpoint turns out to be damaged, an iteration at or below the last one shows it. The history goes back there:
  points of the curves, skipped iterations, recoveries and checkpoints beyond are dropped.
* `iteration` is the last one reported, done or skipped. After a kill it is ahead of the newest checkpoint until the
  next driver starts.
* Evaluations are not dropped: each is of a checkpoint that was saved. Those of the last start's protocol count.
* `pace` is of the last start; machines differ. An iteration in which something was compiled does not count for it.
  `costs` are what was spent: lost work counts too.
* A run is `open` from a start to an ending: it is driven now, or was interrupted. An iteration after an ending means
  that the line of a start was lost.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from engine import events as ev
from engine.runs.accuracies import Accuracies
from engine.runs.iteration_lines import Columns, columns_of, iteration_columns
from engine.runs.journal import Entry, entry_from_json, read_lines
from engine.runs.judgement import ABOUT, SKIP_RULES, skip_rule
from engine.runs.run import Run
from engine.runs.series import Series
from engine.runs.tallies import Costs, Marks
from engine.storage.untrusted import whole_number

MOST_DRIVES = 1000
LATELY = 50
"""Iterations that `recent_loss` and `pace` are the mean of."""
SLICE = 4 * 2**20
"""Bytes of journal read at once."""


@dataclass
class RunHistory(Accuracies):
    """The state of a run after the lines that were folded; `fold` and `add` take in more."""

    environment: dict[str, Any] = field(default_factory=dict)
    data: ev.DataReady | None = None
    plan: ev.TeachersPlanned | None = None
    teachers: ev.TeachersMeasured | None = None
    published: set[int] = field(default_factory=set)
    """Trajectories published since they were planned."""
    stage: str = ""
    """`teachers`, `distillation`, `evaluation`, or empty between stages, before and after."""
    distilling: bool = False
    """Inside distillation, or ended there; also while it evaluates in between."""
    iteration: int = 0
    iterations: int = 0
    """How many there should be; 0 for an imported set."""
    loss: Series = field(default_factory=Series)
    student_lr: Series = field(default_factory=Series)
    gradient_norm: Series = field(default_factory=Series)
    checkpoints: int | None = None
    """Iteration of the newest checkpoint."""
    ending: str = ""
    """`stopped`, `failed` or `finished` once the last driver said so; empty while the run is open."""
    open: bool = False
    """The last driver wrote no ending: it drives now, or was killed."""
    failure: str = ""
    """The error of a run that failed."""
    paused: bool = False
    started: float | None = None
    """When the first driver started, seconds since 1970."""
    drives: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MOST_DRIVES))
    """Start and last sign of every drive, seconds since 1970; moved together where the clock was set back."""
    costs: Costs = field(default_factory=Costs)
    evaluation_seconds: float | None = None
    """Of the last evaluation between iterations."""
    events: int = 0
    """Journal lines folded; grows with everything new."""
    compiling: bool = False
    """Something is compiled, or was, in the iteration that comes next."""
    noticed: set[str] = field(default_factory=set)
    """What notices were about that are given once."""
    _skips: dict[str, Marks] = field(default_factory=lambda: {rule: Marks() for rule in SKIP_RULES})
    _recoveries: Marks = field(default_factory=Marks)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATELY))
    _losses: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LATELY))

    @property
    def skipped(self) -> int:
        """Iterations skipped for bad numbers."""
        return sum(map(len, self._skips.values()))

    @property
    def skips(self) -> dict[str, int]:
        """Iterations skipped, by the rule of `SKIP_RULES` that skipped them; only rules that did."""
        return {rule: len(marks) for rule, marks in self._skips.items() if len(marks)}

    @property
    def recoveries(self) -> int:
        """How often student_lr was halved because the numbers stayed bad."""
        return len(self._recoveries)

    @property
    def names(self) -> list[str]:
        """Names of the classes; empty for journals without them."""
        return self.data.names if self.data else []

    @property
    def teachers_done(self) -> int:
        """Existing teachers, of those planned."""
        if self.plan is None:
            return 0
        return min(self.plan.count - self.plan.missing + len(self.published), self.plan.count)

    @property
    def recent_loss(self) -> float | None:
        """Mean matching loss of the last iterations, at most `LATELY`."""
        losses = [loss for _, loss in self._losses]
        return sum(losses) / len(losses) if losses else None

    @property
    def recent_losses(self) -> int:
        """Iterations that `recent_loss` is the mean of."""
        return len(self._losses)

    @property
    def pace(self) -> float | None:
        """Seconds an iteration takes, recently."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

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
        """Total time it was driven; `now`: it still is. None if it never was."""
        if not self.drives:
            return None
        last = 0.0 if now is None else max(0.0, now - self.drives[-1][1])
        return sum(end - begin for begin, end in self.drives) + last

    def fold(self, values: Iterable[dict[str, Any]]) -> None:
        """Take in parsed journal lines, in order. Iterations are taken in batches: there may be a hundred thousand."""
        batch: list[dict[str, Any]] = []
        for value in values:
            self.events += 1
            if value.get("kind") == "IterationDone":
                batch.append(value)
                continue
            self._take(batch)
            batch = []
            if (entry := entry_from_json(value)) is not None:
                self.see(entry)
        self._take(batch)

    def add(self, entry: Entry) -> int | None:
        """Take in one entry; the iteration the run went back to, None if nothing was dropped."""
        self.events += 1
        return self.see(entry)

    def note_checkpoint(self, iteration: int) -> None:
        """Take in a checkpoint on disk: where lines were lost, the journal does not have the newest one."""
        self.checkpoints = max(iteration, self.checkpoints or 0)
        self.iteration = max(iteration, self.iteration)

    def _take(self, batch: list[dict[str, Any]]) -> None:
        """Take in lines of iterations: at once if nothing about them is unusual, else one by one."""
        columns = iteration_columns(batch) if batch else None
        if columns is not None and all(a < b for a, b in pairwise(columns["iteration"])):
            self._iterate(columns)
            return
        for value in batch:
            if (entry := entry_from_json(value)) is not None:
                self.see(entry)

    def _iterate(self, columns: Columns) -> int | None:
        """Take in iterations with ascending numbers; see `add`."""
        x, losses, seconds = columns["iteration"], columns["loss"], columns["seconds"]
        back = self._reach(x[0])
        self.loss.extend(x, losses)
        self.student_lr.extend(x, columns["student_lr"])
        self.gradient_norm.extend(x, columns["gradient_norm"])
        self._losses.extend(zip(x[-LATELY:], losses[-LATELY:], strict=True))
        plain = seconds[1:] if self.compiling else seconds
        self._seconds.extend(plain[-LATELY:])
        self.compiling = False
        self.costs.iterations.extend(seconds)
        self.costs.distillation += sum(seconds)
        self.iteration, self.iterations = x[-1], columns["iterations"][-1]
        self.stage, self.distilling, self.open, self.ending = "distillation", True, True, ""
        times = columns["time"]
        for time in times if any(b < a for a, b in pairwise(times)) else times[-1:]:
            self._sign(time)
        return back

    def see(self, entry: Entry) -> int | None:
        """Take in the event of an entry that is counted; see `add`. A view that keeps more extends this."""
        event = entry.event
        if isinstance(event, ev.RunStarted):
            return self._start(event, entry.time)
        if isinstance(event, ev.IterationDone):
            return self._iterate(columns_of(entry.time, event))
        self._sign(entry.time)
        back = None
        match event:
            case ev.DataReady():
                self.data = event
            case ev.TeachersPlanned():
                self.plan, self.published = event, set()
            case ev.TeacherEpoch():
                self.costs.teachers += event.seconds
                self.costs.teacher_epochs += 1
            case ev.TeachersMeasured():
                self.teachers = event
            case ev.TeacherPublished():
                self.published.add(event.trajectory)
            case ev.IterationSkipped():
                back = self._reach(event.iteration)
                self._skips[skip_rule(event.reason)].add(event.iteration)
                self.compiling = False
            case ev.RunRecovered():
                self._recoveries.add(event.iteration)
                self.student_lr.latest = event.student_lr  # between two points of the curve
            case ev.CheckpointSaved():
                self.checkpoints = event.iteration
            case ev.EvaluationDone():
                self.costs.evaluation += event.seconds
                self.costs.evaluated += len(event.accuracies)
                self.measured(event)
            case ev.Notice():
                self.noticed |= {event.about} & ABOUT
                self.compiling |= event.about == ev.COMPILING
            case ev.StageStarted() | ev.StageFinished():
                self._change_stage(event)
            case ev.RunPaused() | ev.RunResumed():
                self.paused = isinstance(event, ev.RunPaused)
            case ev.RunStopped():
                self._end("stopped")
                self.costs.peaked(event.peak_bytes, event.peak_device_bytes)
                self.checkpoints = event.iteration or self.checkpoints
            case ev.RunFailed():
                self._end("failed", event.message)
            case ev.RunFinished():
                self._end("finished")
                self.costs.peaked(event.peak_bytes, event.peak_device_bytes)
        return back

    def _start(self, event: ev.RunStarted, time: float) -> int | None:
        self.settings, self.environment = event.settings, event.environment
        asked = event.settings.get("distill.iterations")
        given = event.settings.get("labels.kind") == "given"  # an imported set, which is not iterated
        self.iterations = asked if whole_number(asked) and not given else 0
        self.ending, self.failure, self.open = "", "", True
        self.stage, self.distilling, self.paused = "", False, False
        self.started = time if self.started is None else self.started
        self.drives.append((time, time))
        self._seconds.clear()
        self.compiling = False
        self.checkpoints = event.resumed_from
        return self._go_back(max(event.resumed_from or 0, 0))

    def _end(self, ending: str, failure: str = "") -> None:
        self.ending, self.failure, self.open = ending, failure, False
        self.stage, self.paused = "", False

    def _change_stage(self, event: ev.StageStarted | ev.StageFinished) -> None:
        if isinstance(event, ev.StageStarted):
            self.stage = event.stage
            self.distilling |= event.stage == "distillation"
            return
        if event.stage == "evaluation" and self.distilling:
            self.evaluation_seconds = event.seconds
        if event.stage == "distillation":
            self.distilling = False
        self.stage = "distillation" if self.distilling else ""

    def _sign(self, time: float) -> None:
        """The driver lived at that time."""
        if self.drives:
            begin, last = self.drives[-1]
            if time < last:  # the clock was set back: what passed until then still counts
                begin = time - (last - begin)
            self.drives[-1] = (begin, time)

    def _reach(self, iteration: int) -> int | None:
        """An iteration is reported: one at or below the last one is a repetition."""
        back = self._go_back(max(iteration - 1, 0)) if iteration <= self.iteration else None
        self.iteration = iteration
        return back

    def _go_back(self, iteration: int) -> int | None:
        """Drop what is beyond an iteration; None if there was nothing."""
        beyond = self.iteration > iteration
        self.iteration = iteration
        if not beyond:
            return None
        for curve in (self.loss, self.student_lr, self.gradient_norm):
            curve.cut(iteration)
        for marks in (self._recoveries, *self._skips.values()):
            marks.cut(iteration)
        while self._losses and self._losses[-1][0] > iteration:
            self._losses.pop()
        if self.checkpoints is not None:
            self.checkpoints = min(self.checkpoints, iteration)
        return iteration


def read_history(run: Run) -> RunHistory:
    """The history of a run, from its journal and the names of its checkpoints."""
    history, offset = RunHistory(), 0
    while True:
        values, after = read_lines(run.journal_file, offset, SLICE)
        if after == offset:
            break
        history.fold(values)
        offset = after
    if (newest := max(run.checkpoints(), default=None)) is not None:
        history.note_checkpoint(newest)
    return history

"""What a driven run shows: live bars with time left on a terminal, plain lines anywhere else."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from engine import events as ev
from engine.errors import counted
from engine.settings.decoders import random_words
from engine.storage.filesystem import format_bytes
from tesla_tui.render.eta import Clock
from tesla_tui.render.words import accuracy_of, clean, duration, recovered_words, teachers_words

PLAIN_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""
WIDE = 100
"""Characters from which on the live line has room for student_lr."""
ECHO = len("^C^C^C")
WIDEST_LEFT = len("59 min 59 s left")
STAGES = {
    "data": "Data",
    "teachers": "Teachers",
    "distillation": "Distilling",
    "evaluation": "Evaluating",
    "benchmark": "Measuring",
    "plan": "Measuring",
    "study": "Study",
    "import": "Importing",
    "export": "Exporting",
    "log": "Logging",
}


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        return Text("" if left is None or task.finished else f"{duration(left)} left", style="cyan")


class _Short:
    """Leaves the end of the line to the terminal, which writes `^C` there: on a full line that would begin a new one.

    Then the line above could not be erased any more.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._renderable, options.update_width(max(1, options.max_width - ECHO)))


class _Bars(Progress):
    def get_renderable(self) -> RenderableType:
        return _Short(super().get_renderable())


class Display:
    """Shows events. Use as a context manager around the loop that iterates them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self._clocks: dict[str, Clock] = {}
        self._tasks: dict[str, TaskID] = {}
        self._shown = 0.0
        self._words = ""
        self._distilling = False
        self._bars = _Bars(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=None, complete_style="green", finished_style="green"),
            TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[amount]}", style="dim", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[detail]}", style="dim", table_column=Column(no_wrap=True)),
            _Left(table_column=Column(no_wrap=True, min_width=WIDEST_LEFT)),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not self.live,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, event: ev.Event) -> None:
        """Show one event."""
        if isinstance(event, ev.Progress):
            self._progress(event)
        elif isinstance(event, ev.StageStarted):
            self._drop("data")
            self._distilling |= event.stage == "distillation"
        elif isinstance(event, ev.StageFinished):
            self._finish(event)
        elif isinstance(event, ev.IterationDone):
            self._words = f"loss {event.loss:.3f}"
            if self.console.width >= WIDE or not self.live:
                self._words += f"  student_lr {event.student_lr:.4f}"
        else:
            if isinstance(event, ev.DataReady):
                self._drop("data")
            for line, style in _lines(event):
                self._say(line, style)

    def _progress(self, event: ev.Progress) -> None:
        left = self._clocks.setdefault(event.stage, Clock()).left(event.done, event.total, event.detail)
        name = STAGES.get(event.stage, event.stage)
        detail = self._words if event.stage == "distillation" and self._words else clean(event.detail)
        amount = f"{int(event.done)}/{int(event.total)} {event.unit}"
        if self.live:
            if event.stage not in self._tasks:
                self._tasks[event.stage] = self._bars.add_task(name, amount="", detail="", left=None)
            self._bars.update(
                self._tasks[event.stage],
                completed=event.done,
                total=event.total,
                amount=amount,
                detail=escape(detail),
                left=left,
            )
            if event.stage == "evaluation" and event.done >= event.total:
                self._drop("evaluation")
            return
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY:
            self._shown = now
            ending = "" if left is None else f"{duration(left)} left"
            self._say(f"{name}: {', '.join(filter(None, (amount, detail, ending)))}", "")

    def _say(self, line: str, style: str) -> None:
        """A line for good. A terminal's continues under its text; a file's or a pipe's stays whole, to be searched."""
        if not self.live:
            self.console.print(Text(line, style=style), soft_wrap=True)
            return
        lead = line[:2] if line.startswith(("  ", "! ")) else ""
        for part in Text(line[len(lead) :]).wrap(self.console, max(self.console.width - len(lead), 1)):
            part.rstrip()
            self.console.print(Text(lead + part.plain, style=style))
            lead = " " * len(lead)

    def _finish(self, event: ev.StageFinished) -> None:
        self._drop(event.stage)
        between = event.stage == "evaluation" and self._distilling  # its result has a line already
        if event.stage == "distillation":
            self._distilling = False
        if event.seconds > 0.5 and not between:
            self.console.print(
                Text(f"✓ {STAGES.get(event.stage, event.stage)}: done in {duration(event.seconds)}", style="green")
            )

    def _drop(self, stage: str) -> None:
        task = self._tasks.pop(stage, None)
        self._clocks.pop(stage, None)
        if task is not None:
            self._bars.remove_task(task)


def _lines(event: ev.Event) -> list[tuple[str, str]]:
    """What is printed for good, with its style."""
    match event:
        case ev.DataReady():
            kind = "grey" if event.channels == 1 else "RGB"
            return [
                (
                    f"  {clean(event.name)}: {event.classes} classes, {event.resolution}x{event.resolution} {kind}; "
                    f"{event.train:,} training, {event.holdout:,} held-out and {event.test:,} test images",
                    "",
                )
            ]
        case ev.TeachersPlanned():
            saved = 1 - event.epochs / event.epochs_asked
            words = f"  {counted(event.count, 'trajectory', 'trajectories')} of {counted(event.epochs, 'epoch')}, "
            words += f"{format_bytes(event.bytes)} on disk"
            if saved > 0:
                first, last = event.epochs + 1, event.epochs_asked
                unread = f"epoch {last} is not needed" if first == last else f"epochs {first} to {last} are not needed"
                words += f"; {unread}, which saves {saved:.0%} of the training"
            if event.gradients > 1:
                words += f"; {event.gradients} gradients a step"
            if not event.missing:
                words += " (all present)"
            elif event.missing < event.count:
                words += f" ({event.count - event.missing} already present)"
            return [(words, "")]
        case ev.TeachersMeasured():
            return [(f"  teachers: {teachers_words(event)}", "")]
        case ev.RunStarted() if event.resumed_from is not None:
            return [(f"  {event.run}: resuming from iteration {event.resumed_from}", "cyan")]
        case ev.EvaluationDone():
            split = "held-out" if event.split == "holdout" else "test"
            which = random_words(event.formation) if event.subject == "random" else f"iteration {event.iteration}"
            accuracy = accuracy_of(event)
            rate = "" if event.lr is None else f", learning rate {event.lr:g}"
            return [(f"  {which}: {split} accuracy {accuracy} % ({clean(event.network)}{rate})", "")]
        case ev.IterationSkipped():
            loss = "" if event.loss is None else f", loss {event.loss:.3g}"
            return [(f"! iteration {event.iteration} skipped: {event.reason}{loss}", "yellow")]
        case ev.RunRecovered():
            return [(f"! iteration {event.iteration}: {recovered_words(event)}", "yellow")]
        case ev.Notice():
            return [(("! " if event.level == "warning" else "  ") + clean(event.message), "yellow")]
    return []

"""Which numbers of a run can be plotted, and what each is called."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.events import EvaluationDone, IterationDone, TeacherEpoch
from engine.runs.history import RunHistory
from engine.runs.journal import Entry

DISTILLATION = "distillation/"
"""Prefix of the curves that have a point for each iteration."""


@dataclass(frozen=True, slots=True)
class Number:
    """One point of one curve."""

    series: str
    """Its curve: `distillation/loss`, `accuracy/test/convnet`, `teachers/loss`, ..."""
    step: int
    """Iteration; of teachers, epoch."""
    value: float
    time: float
    """Wall time, seconds since 1970."""
    trajectory: int | None = None
    """Of teachers: which."""

    @property
    def name(self) -> str:
        """Its curve where there is one list of all: `teachers/loss/0003` for that trajectory, else the series."""
        return self.series if self.trajectory is None else f"{self.series}/{self.trajectory:04d}"

    @property
    def lasting(self) -> bool:
        """Whether it stays when the run goes back to an earlier iteration: of a teacher or of an evaluation."""
        return not self.series.startswith(DISTILLATION)


def numbers_of(entry: Entry) -> Iterator[Number]:
    """The points in one line of the journal; most kinds of lines have none."""
    event = entry.event
    if isinstance(event, IterationDone):
        values = {
            "loss": event.loss, "student_lr": event.student_lr, "gradient_norm": event.gradient_norm,
            "student_lr_gradient": event.student_lr_gradient, "seconds": event.seconds,
        }  # fmt: skip
        for name, value in values.items():
            if value is not None:
                yield Number(f"{DISTILLATION}{name}", event.iteration, value, entry.time)
    elif isinstance(event, EvaluationDone):
        subject = "" if event.subject == "distilled" else f"/{event.subject}"
        name = f"{event.split}/{event.network}{subject}"
        yield Number(f"accuracy/{name}", event.iteration, event.mean, entry.time)
        if len(event.accuracies) > 1:
            yield Number(f"accuracy_std/{name}", event.iteration, event.std, entry.time)
    elif isinstance(event, TeacherEpoch):
        for name, value in {"loss": event.loss, "accuracy": event.accuracy, "seconds": event.seconds}.items():
            yield Number(f"teachers/{name}", event.epoch, value, entry.time, event.trajectory)


def final_numbers(entries: Iterable[Entry]) -> list[Number]:
    """All points that count, in the journal's order: lost ones are left out, and of repeated ones the later stays."""
    return [number for _, number in _final(enumerate(entries, 1))]


def lost_lines(entries: Iterable[Entry]) -> set[int]:
    """Lines with points none of which counts, numbered from 1."""
    having = set[int]()

    def noted() -> Iterator[tuple[int, Entry]]:
        for line, entry in enumerate(entries, 1):
            if next(numbers_of(entry), None) is not None:
                having.add(line)
            yield line, entry

    counting = {line for line, _ in _final(noted())}
    return having - counting


def _final(lines: Iterable[tuple[int, Entry]]) -> list[tuple[int, Number]]:
    history = RunHistory()
    found: dict[tuple[str, int | None, int], tuple[int, Number]] = {}
    for line, entry in lines:
        back = history.add(entry)
        if back is not None:
            found = {key: point for key, point in found.items() if point[1].lasting or point[1].step <= back}
        for number in numbers_of(entry):
            key = (number.series, number.trajectory, number.step)
            found.pop(key, None)
            found[key] = line, number
    return list(found.values())

"""Events as lines of a log: time, level, text."""

from dataclasses import dataclass

from engine import events as ev
from engine.settings.decoders import random_words
from engine.storage.filesystem import format_bytes
from tesla_tui.render.words import accuracy_of, clean, duration, recovered_words, teachers_words

LEVELS = ("info", "warning", "error")
"""From the least to the most serious."""


@dataclass(frozen=True)
class LogLine:
    """One line."""

    time: float
    """Seconds since 1970."""
    level: str
    """`info`, `warning` or `error`."""
    kind: str
    """The event's name, as in the journal."""
    text: str

    def matches(self, wanted: str, level: str) -> bool:
        """Whether it is at least as serious as `level` and contains every word of `wanted`."""
        if LEVELS.index(self.level) < LEVELS.index(level):
            return False
        there = f"{self.kind} {self.text}".lower()
        return all(word in there for word in wanted.lower().split())


def log_line(event: ev.Event, time: float) -> LogLine | None:
    """The line of an event; None for one that is only drawn in charts."""
    found = _words(event)
    if found is None:
        return None
    level, text = found
    return LogLine(time, level, event.kind, clean(text).replace("\n", " "))


def _words(event: ev.Event) -> tuple[str, str] | None:
    match event:
        case ev.RunStarted():
            where = "from the beginning" if event.resumed_from is None else f"from iteration {event.resumed_from}"
            return "info", f"{event.run} starts {where}"
        case ev.RunStopped():
            saved = "" if event.iteration is None else f"; saved at iteration {event.iteration}"
            return "info", f"stopped: {event.reason}{saved}"
        case ev.RunPaused():
            return "info", "paused"
        case ev.RunResumed():
            return "info", f"resumed after {duration(event.seconds)}"
        case ev.RunFailed():
            return "error", event.message
        case ev.RunFinished():
            peak = "" if event.peak_bytes is None else f", peak memory {format_bytes(event.peak_bytes)}"
            outcome = f". {event.outcome}" if event.outcome else ""
            return "info", f"finished in {duration(event.seconds)}{peak}{outcome}"
        case ev.StageStarted():
            return "info", f"{event.stage} starts"
        case ev.StageFinished():
            return "info", f"{event.stage} done in {duration(event.seconds)}"
        case ev.DataReady():
            sizes = f"{event.train:,} training, {event.holdout:,} held-out, {event.test:,} test images"
            return "info", f"{event.name}: {event.classes} classes, {sizes}"
        case ev.TeachersPlanned():
            there = event.count - event.missing
            size = format_bytes(event.bytes)
            size += f", {event.gradients} gradients a step" if event.gradients > 1 else ""
            return "info", f"{event.count} trajectories of {event.epochs} epochs, {size}, {there} present"
        case ev.TeacherEpoch():
            result = f"loss {event.loss:.3f}, accuracy {100 * event.accuracy:.1f} %"
            return "info", f"teacher {event.trajectory}: epoch {event.epoch}/{event.epochs}, {result}"
        case ev.TeachersMeasured():
            return "info", f"teachers: {teachers_words(event)}"
        case ev.TeacherPublished():
            return "info", f"teacher {event.trajectory} saved"
        case ev.IterationSkipped():
            return "warning", f"iteration {event.iteration} skipped: {event.reason}"
        case ev.RunRecovered():
            return "warning", f"{recovered_words(event)} at iteration {event.iteration}"
        case ev.CheckpointSaved():
            return "info", f"checkpoint at iteration {event.iteration}"
        case ev.EvaluationDone():
            which = random_words(event.formation) if event.subject == "random" else f"iteration {event.iteration}"
            accuracy = accuracy_of(event)
            split = "held-out" if event.split == "holdout" else event.split
            return "info", f"{which}: {split} accuracy {accuracy} % ({event.network})"
        case ev.Notice():
            return ("warning" if event.level == "warning" else "info"), event.message
    return None

"""Numbers, times and untrusted text, formatted for people."""

import math
import os
import time
import unicodedata

from engine.errors import UnreadableFileError, counted
from engine.events import EvaluationDone, RunRecovered, TeachersMeasured


def clean(text: str) -> str:
    """Untrusted text (class names, file names) without terminal control characters."""
    return "".join(c if unicodedata.category(c)[0] != "C" or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def unread_words(error: UnreadableFileError) -> str:
    """That a file cannot be read now, in a short line; the paths of screens are long."""
    reason = os.strerror(error.errno) if error.errno else error.message
    return f"{clean(error.path.name)} cannot be read now ({reason}); what was read before is shown."


def one_line(text: str) -> str:
    """Untrusted text that stays on its line, as a caption or in a table: the name of a folder may have line breaks."""
    return clean(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def literal(text: object) -> str:
    """Foreign text for a line with Rich's markup in it: cleaned, on one line, and none of it taken for markup."""
    from rich.markup import escape

    return escape(one_line(str(text)))


def percent(value: float) -> str:
    """An accuracy 0..1 in percent, one decimal."""
    return f"{100 * value:.1f}"


def plus_minus(mean: float, std: float, count: int) -> str:
    """Mean and sample standard deviation in percent; a single measurement has none."""
    return f"{100 * mean:.1f} ± {100 * std:.1f}" if count > 1 else percent(mean)


def accuracy_of(result: EvaluationDone) -> str:
    """Mean of a result in percent, with ± where there are several networks."""
    return plus_minus(result.mean, result.std, len(result.accuracies))


def duration(seconds: float) -> str:
    """7 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if not math.isfinite(seconds):
        return "? s"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def short_duration(seconds: float) -> str:
    """7 s, 3 min, 2 h, 3 d: where room is short."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def teachers_words(measured: TeachersMeasured) -> str:
    """How good the teachers are: mean and sample standard deviation over trajectories."""
    split = "held-out" if measured.split == "holdout" else "training (nothing is held out)"
    which = counted(len(measured.accuracies), "trajectory", "trajectories")
    if len(measured.accuracies) < measured.count:
        which = f"{len(measured.accuracies)} of {counted(measured.count, 'trajectory', 'trajectories')}"
    return (
        f"{split} accuracy {plus_minus(measured.mean, measured.std, len(measured.accuracies))} % after "
        f"{counted(measured.epoch, 'epoch')} ({which}, {counted(measured.images, 'image')}; guessing "
        f"{percent(measured.guessing)} %)"
    )


def saved_words(checkpoint: int | None) -> str:
    """What a run that stopped has saved: its newest checkpoint, or only teachers."""
    return "trained teachers are saved" if checkpoint is None else f"saved at iteration {checkpoint}"


def recovered_words(event: RunRecovered) -> str:
    """What was done when the numbers stayed bad."""
    if event.rolled_back_to is None:
        return f"student_lr halved to {event.student_lr:.3g}, momentum cleared"
    return f"rolled back to iteration {event.rolled_back_to}, student_lr {event.student_lr:.3g}, momentum cleared"


def ago(moment: float) -> str:
    """How long ago a time (seconds since 1970) was."""
    passed = max(0.0, time.time() - moment)
    return "just now" if passed < 5 else f"{duration(passed)} ago"

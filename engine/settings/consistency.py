"""Settings that contradict each other. Each error says which, and what to change."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.settings.schema import DistillSettings, Settings


def check_consistent(settings: "Settings") -> None:
    """Check what the range of a single setting cannot.

    Raises:
        ValueError: two settings contradict each other.
    """
    distill = settings.distill
    if settings.needs_teachers:
        _check_reach(settings)
        _check_starts(distill)
    elif distill.init == "correct" and not settings.selects:
        raise ValueError(
            f"distill.init = correct needs a teacher; distill.method = {distill.method} trains none. Set "
            "distill.init = real, noise or kmeans."
        )
    if settings.traits.whole_gradient and distill.gradient == "paper":
        raise ValueError(
            f"distill.gradient = paper is TESLA's eq. 6; distill.method = {distill.method} uses the whole gradient. "
            "Set exact or unrolled (the same numbers), or distill.method = tesla."
        )
    if settings.dataset.name == "folder" and settings.dataset.path is None:
        raise ValueError("dataset.name = folder needs dataset.path, the class-per-folder tree.")


def _check_reach(settings: "Settings") -> None:
    """Teachers are long enough for what is read of them."""
    distill, epochs = settings.distill, settings.teachers.epochs
    if epochs < settings.reachable_epochs:
        raise ValueError(
            f"teachers.epochs = {epochs} is too short: distill.max_start_epoch = {distill.max_start_epoch} and "
            f"distill.teacher_epochs = {distill.teacher_epochs} read up to epoch {settings.reachable_epochs}. Raise "
            "teachers.epochs or lower one of the two."
        )


def _check_starts(distill: "DistillSettings") -> None:
    """The range of start epochs, and the curriculum in it."""
    least, most, first = distill.min_start_epoch, distill.max_start_epoch, distill.current_max_start_epoch
    if least >= most:
        raise ValueError(
            f"distill.min_start_epoch = {least} leaves no start epoch below distill.max_start_epoch = {most}. "
            f"Lower one or raise the other: start epochs are drawn from min_start_epoch .. max_start_epoch - 1."
        )
    if first == "max":
        return
    if first != "half" and not least < first <= most:
        raise ValueError(
            f"distill.current_max_start_epoch = {first} must be above distill.min_start_epoch = {least} and at "
            f"most distill.max_start_epoch = {most}: the curriculum starts with start epochs from min_start_epoch "
            ".. current_max_start_epoch - 1 (max: no curriculum)."
        )
    if distill.expansion_end is None:
        raise ValueError(
            f"distill.current_max_start_epoch = {first} starts a curriculum; set distill.expansion_end to "
            "the iteration at which it reaches distill.max_start_epoch."
        )

"""What of a plan does not fit this machine, and the setting that would make it fit."""

from collections.abc import Sequence

from engine.storage.filesystem import format_bytes
from engine.tools.plan.problem import Problem
from engine.tools.plan.report import DiskRoom, DiskUse, Part, Peak, Shortage, Where

ROOM = 0.95
"""Share of the free memory or disk a plan may take before it counts as too much."""


def peaks(parts: Sequence[Part], free: dict[Where, int]) -> list[Peak]:
    """The most of each kind of memory, over the stages."""
    found = []
    for where, there in free.items():
        mine = [part for part in parts if part.where == where]
        always = sum(part.bytes for part in mine if part.stage == "always")
        between = sum(part.bytes for part in mine if part.between)
        by_stage = {
            stage: always
            + sum(part.bytes for part in mine if part.stage == stage)
            + (between if stage == "evaluation" else 0)
            for stage in ("teachers", "distillation", "evaluation")
        }
        stage = max(by_stage, key=by_stage.__getitem__)
        found.append(Peak(where, stage, by_stage[stage], there))  # type: ignore[arg-type]
    return found


def shortages(problem: Problem, parts: Sequence[Part], most: Sequence[Peak], room: Sequence[DiskRoom],
              uses: Sequence[DiskUse]) -> list[Shortage]:  # fmt: skip
    """Everything that does not fit."""
    found = []
    for peak in most:
        if peak.bytes > ROOM * peak.free:
            what = "memory" if peak.where == "device" else "host memory"
            needed, free = format_bytes(peak.bytes), format_bytes(peak.free)
            words = f"{needed} of {what} at the peak ({peak.stage}), {free} are free."
            found.append(Shortage(words, _memory_hint(problem, parts, peak)))
    for disk in room:
        if disk.bytes > ROOM * disk.free:
            words = f"{format_bytes(disk.bytes)} of disk at {disk.place}, {format_bytes(disk.free)} are free."
            found.append(Shortage(words, _disk_hint(problem, uses, disk)))
    return found


def _memory_hint(problem: Problem, parts: Sequence[Part], peak: Peak) -> str:
    settings = problem.settings
    allowed = ROOM * peak.free
    if peak.stage == "teachers":
        return "Lower teachers.batch, or network.width."
    if peak.stage == "evaluation":
        return "Lower network.width or dataset.resolution, or evaluate.repeats; or use a machine with more memory."
    if not settings.needs_teachers:
        fewer = "--ipc, peers.batch_real, network.width" if settings.traits.iterates else "--ipc"
        return f"Lower {fewer} or dataset.resolution; or use a machine with more memory."
    if peak.where == "host":
        return "Set distill.store = checkpoint, which needs no host memory."
    if settings.distill.gradient == "unrolled":
        return "Set distill.gradient = exact: the same gradient, with one step's graph at a time."
    step = sum(part.bytes for part in parts if part.name.startswith("one step") and part.where == peak.where)
    kept = sum(part.bytes for part in parts if part.name.startswith("student parameters") and part.where == peak.where)
    others = peak.bytes - step
    hints = []
    if kept > 0.05 * peak.bytes and settings.distill.store != "checkpoint":
        hints.append("distill.store = checkpoint")
        others -= kept
    batch = int(problem.batch * (allowed - others) / step) if step else 0
    if 1 <= batch < problem.batch:
        hints.append(f"distill.batch = {_round(batch)}")
    if problem.device == "cpu" and settings.compute.memory != "flat":
        hints.append("compute.memory = flat (no memory is kept for later; slower)")
    if batch < 1:
        held = format_bytes(3 * problem.image_bytes)
        return f"Lower --ipc: {problem.images} images with momentum and gradient take {held}."
    return f"Set {' or '.join(hints)}."


def _disk_hint(problem: Problem, uses: Sequence[DiskUse], disk: DiskRoom) -> str:
    largest = max(uses, key=lambda use: use.bytes)
    over = disk.bytes - ROOM * disk.free
    if largest.place == "cache":
        return "Set TESLA_CACHE to a folder on a larger disk, or lower dataset.resolution."
    if largest.name == "checkpoints":
        fewer = problem.settings.distill.keep - int(over // problem.checkpoint_bytes) - 1
        return f"Lower distill.keep to {max(1, fewer)}" + (", and --ipc." if fewer < 1 else ".")
    if not problem.settings.needs_teachers:
        return "Put the workspace on a larger disk."
    each = (problem.settings.trained_epochs + 1) * problem.parameters * 4
    count = problem.settings.teachers.count - int(over // each) - 1
    if count < 1:
        return "Put the workspace on a larger disk: there is no room for a single teacher."
    return f"Lower teachers.count to {count}, or put the workspace on a larger disk."


def _round(batch: int) -> int:
    """A round batch size, not above this one."""
    step = int(10 ** max(0, len(str(batch)) - 2))
    return batch // step * step

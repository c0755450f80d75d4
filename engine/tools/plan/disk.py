"""The disk a run takes: the files it will still write, and the file systems that must take them."""

from pathlib import Path

from engine.data import cache_root
from engine.runs.preview_frames import MOST_BYTES, MOST_FRAMES, images_shown
from engine.runtime.disk_space import SAVED_BESIDES, buffer_bytes, checkpoints_bytes, trajectory_bytes
from engine.storage.filesystem import disk, format_bytes
from engine.tools.plan.problem import Problem
from engine.tools.plan.report import DiskRoom, DiskUse


def disk_uses(problem: Problem, teachers_left: int, saved: int) -> list[DiskUse]:
    """Files still to be written.

    Args:
        problem: the run.
        teachers_left: trajectories to train.
        saved: bytes of checkpoints the run has on disk.
    """
    settings, facts = problem.settings, problem.facts
    rows = settings.trained_epochs + 1
    trajectory = trajectory_bytes(settings.trained_epochs, problem.parameters)
    kept = settings.distill.keep + SAVED_BESIDES
    shown = images_shown(facts.classes, settings.distill.ipc, facts.resolution)
    frame = facts.classes * shown * facts.values
    making = f"{teachers_left} trajectories of {rows} snapshots, and one being written"
    uses = [
        DiskUse("checkpoints", checkpoints_bytes(settings.distill.keep, problem.checkpoint_bytes, saved), "workspace",
                f"{kept} of {format_bytes(problem.checkpoint_bytes)}: distill.keep, first, best, one being written"),
        DiskUse("previews", min(MOST_BYTES, MOST_FRAMES * frame), "workspace", "at most"),
    ]  # fmt: skip
    if settings.needs_teachers:
        note = making if teachers_left else "none left to train"
        uses.insert(0, DiskUse("teacher buffer", buffer_bytes(teachers_left, trajectory), "workspace", note))
    if facts.dataset is None:
        size = facts.images * (facts.values + 8)
        note = "plus the download" if facts.to_download else "not decoded yet"
        uses.append(DiskUse("decoded dataset", size, "cache", note))
    return uses


def disk_room(workspace: Path, uses: list[DiskUse], limit: int | None) -> list[DiskRoom]:
    """What each file system must take, and has free.

    Args:
        workspace: its folder.
        uses: files still to be written.
        limit: bytes to count as free, instead of what is.
    """
    places = {"workspace": workspace, "cache": cache_root()}
    by_disk: dict[int, DiskRoom] = {}
    for use in uses:
        place = places[use.place]
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        number = there.stat().st_dev
        free = limit if limit is not None else disk.free(there) or 0
        before = by_disk.get(number)
        by_disk[number] = DiskRoom(
            before.place if before else str(place), use.bytes + (before.bytes if before else 0), free
        )
    return list(by_disk.values())

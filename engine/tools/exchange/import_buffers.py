"""Import of published teacher buffers (`replay_buffer_*.pt`): checked first, then one trajectory at a time.

Nothing is written before every file's container and every snapshot's shapes are checked (`buffer_outline`); the buffer
gets its name when it is whole. A killed import resumes.
"""

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from engine.data import prepare_dataset
from engine.errors import BusyError, CorruptFileError, DataError, UsageError
from engine.events import Event, Notice, Progress
from engine.runs.names import IMPORTING, check_name
from engine.runs.provenance import DECLARABLE, ImportedBuffer, identity_of, imported_buffer
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from engine.storage.atomic import FORMAT, disk, read_json, sweep, write_json
from engine.storage.filesystem import format_bytes
from engine.storage.reading import exists
from engine.tools.exchange.buffer_outline import Outline, outlines_of
from engine.tools.exchange.torch_reader import STAGE, load
from engine.tools.exchange.torch_shapes import same_shapes
from engine.training.teacher_buffer import TeacherBuffer

OPEN = 2**27
"""Bytes read from a mapped file before it is closed and reopened, which releases the pages that were read."""

Events = Generator[Event, None, None]


def import_buffers(
    workspace: Workspace,
    effective: EffectiveSettings,
    files: Sequence[Path],
    name: str,
    *,
    count: int | None = None,
    epochs: int | None = None,
) -> Generator[Event, None, ImportedBuffer]:
    """Import published files as the buffer `name` of a workspace. Use as `yield from`, or iterate it.

    Args:
        workspace: where to.
        effective: its settings: dataset, input space and network are what the files are checked against; keys of
            `DECLARABLE` that were given are recorded as declared.
        files: in the order of their trajectories.
        name: of the buffer's folder.
        count: trajectories to take; None for all.
        epochs: epochs to take of each; None for as many as the shortest has.

    Raises:
        UsageError: a wrong name, a file given twice, or another buffer of that name.
        DataError: a file is damaged, hostile, for another network, or its values cannot be teachers.
        BusyError: another process imports it now.
    """
    check_name(name, "buffer")
    settings = effective.settings
    dataset = yield from prepare_dataset(workspace.data_request(settings))
    outlines = yield from outlines_of(files, settings, dataset)
    facts = _facts(outlines, effective, *_limits(outlines, count, epochs))
    others = same_shapes(settings.network, dataset) if effective.origins["network.name"] != "command line" else []
    if others:
        yield Notice(
            level="info",
            message=f"Taken for teachers of network.name = {settings.network.name}. The files do not name their "
            f"network, and {', '.join(others)} {'have' if len(others) > 1 else 'has'} parameters of the same shapes: "
            "for those, import with --set network.name=NAME.",
        )
    identity = identity_of([o.source.sha256 for o in outlines], settings, dataset.fingerprint, dataset.name)
    target = workspace.folder / "buffers" / name
    disk.make_folder(target.parent)
    with _alone(target):
        yield from _written(outlines, target, json.loads(json.dumps(identity)), facts)
    if settings.dataset.holdout > 0:
        yield Notice(
            level="warning",
            message=f"These teachers may have seen the {settings.dataset.holdout:.0%} of training images that are held "
            "out here (published code trains on all). Held-out accuracy, which selects the checkpoint, may then be "
            "slightly optimistic. Test accuracy is not affected.",
        )
    return imported_buffer(target)


def _limits(outlines: Sequence[Outline], count: int | None, epochs: int | None) -> tuple[int, int]:
    """Trajectories and epochs to import."""
    every = [n for outline in outlines for n in outline.epochs]
    if count is not None and count > len(every):
        raise UsageError(f"--count {count} is more than the {len(every)} trajectories in the files.")
    every = every[:count]
    if epochs is not None and epochs > min(every):
        raise UsageError(f"--epochs {epochs} is more than the {min(every)} that every trajectory has.")
    return len(every), epochs or min(every)


def _facts(outlines: Sequence[Outline], effective: EffectiveSettings, count: int, epochs: int) -> dict[str, Any]:
    from engine import __version__

    flat = effective.flat()
    declared = [key for key in DECLARABLE if effective.origins[key] == "command line"]
    carried = ["network.name", "network.width", "network.depth", "dataset.zca", *declared]
    dtypes = sorted({str(dtype).removeprefix("torch.") for outline in outlines for dtype in outline.dtypes})
    return {
        "trajectories": count,
        "epochs": epochs,
        "dtype": ", ".join(dtypes),
        "settings": {key: flat[key] for key in carried if flat[key] is not None},
        "declared": declared,
        "files": [
            {"name": o.source.path.name, "bytes": o.source.bytes, "sha256": o.source.sha256,
             "trajectories": len(o.epochs)}
            for o in outlines
        ],
        "imported_by": f"tesla-tui {__version__}",
        "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    lock = FileLock(target.parents[1] / f".import-{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"Another process is importing {target.name}.", "Wait for it to finish, or choose another --name."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _written(
    outlines: Sequence[Outline], target: Path, identity: Mapping[str, Any], facts: Mapping[str, Any]
) -> Events:
    """Write the buffer beside its name, then rename it; one that has its name already is completed in place."""
    count, epochs = facts["trajectories"], facts["epochs"]
    folder = _folder(target, identity, facts)
    buffer = TeacherBuffer(folder, identity)
    rows = sum(epochs + 1 for i in range(count) if buffer.epochs(i) < epochs)
    _check_room(folder, rows * outlines[0].parameters * 4)
    try:
        yield from _converted(outlines, buffer, count, epochs)
    except DataError:
        if folder != target:
            disk.remove_tree(folder)  # what was read so far is of a file that cannot be used
        raise
    if folder != target:
        disk.rename(folder, target)
        disk.fsync(target.parent)


def _folder(target: Path, identity: Mapping[str, Any], facts: Mapping[str, Any]) -> Path:
    """The folder to write to, with its manifest: the existing buffer if it is the same and incomplete."""
    if exists(target):
        found = read_json(target / "manifest.json") if exists(target / "manifest.json") else {}
        same = ("trajectories", "epochs")
        there = found.get("imported") or {}
        if found.get("identity") == identity and all(there.get(key) == facts[key] for key in same):
            sweep(target)
            return target
        raise UsageError(
            f"The workspace already has a different teacher buffer named {target.name} ({target}).",
            "Choose another --name, or remove that folder.",
        )
    making = target.with_name(target.name + IMPORTING)
    manifest = making / "manifest.json"
    if exists(making):
        try:
            found = read_json(manifest)
            if found["identity"] == identity:
                facts = {**facts, "imported_at": found["imported"]["imported_at"]}
            else:
                disk.remove_tree(making)  # files of another import that was stopped
        except (OSError, CorruptFileError, KeyError, TypeError):
            disk.remove_tree(making)
    disk.make_folder(making)
    sweep(making)
    write_json(manifest, {"format": FORMAT, "identity": identity, "imported": facts})
    return making


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"Not enough disk space for the buffer: {format_bytes(needed)} needed, {format_bytes(free)} free.",
            "Import fewer with --count and --epochs.",
        )


def _converted(outlines: Sequence[Outline], buffer: TeacherBuffer, count: int, epochs: int) -> Events:
    number = 0
    for outline in outlines:
        value, read = load(outline.source), 0
        for inside in range(len(outline.epochs)):
            if number == count:
                return
            if buffer.epochs(number) < epochs:
                if outline.source.mapped and read > OPEN:
                    del value  # first unmap, then map again: what was read stays in memory until then
                    value, read = load(outline.source), 0
                where = f"{outline.source.path}, trajectory {inside}"
                yield from _trajectory(value[inside], where, buffer, number, epochs)
                read += (epochs + 1) * outline.parameters * 4
            number += 1
            yield Progress(stage=STAGE, done=number, total=count, unit="trajectories", detail=outline.source.path.name)
        del value


def _trajectory(value: Any, where: str, buffer: TeacherBuffer, number: int, epochs: int) -> Events:
    _refuse_aliases(value, epochs, where)
    still: list[int] = []

    def rows() -> Iterator[Tensor]:
        before: Tensor | None = None
        for epoch in range(epochs + 1):
            row = _row(value[epoch], f"{where}, epoch {epoch}")
            if before is not None and torch.equal(row, before):
                still.append(epoch)
            yield row
            before = row

    buffer.publish(number, rows(), epochs + 1)
    if still:
        shown = ", ".join(map(str, still[:5])) + (", ..." if len(still) > 5 else "")
        yield Notice(level="warning", message=f"{where}: epochs {shown} are identical to the one before.")


def _row(snapshot: Sequence[Tensor], where: str) -> Tensor:
    """A snapshot as one vector `(P,)`, float32."""
    row = torch.cat([tensor.detach().reshape(-1).to(torch.float32) for tensor in snapshot])
    if not torch.isfinite(row).all():
        bad = next(i for i, tensor in enumerate(snapshot) if not torch.isfinite(tensor.detach().float()).all())
        raise DataError(
            f"{where}: parameter {bad} has values that are infinite or NaN.",
            "This teacher diverged. Import only the trajectories before it with --count, or use other files.",
        )
    return row


def _refuse_aliases(value: Sequence[Sequence[Tensor]], epochs: int, where: str) -> None:
    first, last = value[0], value[epochs]
    if any(not torch.equal(a, b) for a, b in zip(first, last, strict=True)):
        return
    if all(torch.equal(a, b) for snapshot in value[1 : epochs + 1] for a, b in zip(first, snapshot, strict=True)):
        raise DataError(
            f"{where}: the snapshots of all {epochs + 1} epochs are identical.",
            "Published code trained on a CPU keeps references instead of copies, so every epoch holds the last one. "
            "Train the buffer again, on a GPU or with copies.",
        )

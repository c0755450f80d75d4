"""What a report says of a run, read from disk, whether the run is driven now, unfinished, failed or imported."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, TeslaError, UnreadableFileError
from engine.events import EvaluationDone
from engine.runs.data_record import DataDetails, read_details
from engine.runs.protocol import own_results
from engine.runs.provenance import ImportedBuffer, SetOrigin, imported_buffer
from engine.runs.run import Run
from engine.runs.selection import is_unimproved, selected_iteration
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from engine.storage.atomic import read_json
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.view import RunView


@dataclass(frozen=True)
class Measured:
    """An evaluation and its protocol."""

    result: EvaluationDone
    protocol: dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """Everything the page needs."""

    workspace: Workspace
    run: Run
    effective: EffectiveSettings
    view: RunView
    state: str
    selected: int | None
    unimproved: bool
    """The selected checkpoint is the one before the first update: no later one is better."""
    tests: list[Measured]
    """Test accuracies of the selected checkpoint and of random images, by network, the distilled ones first."""
    others: list[Measured]
    """The same, to protocols other than the run's own."""
    holdout: EvaluationDone | None
    """Of the selected checkpoint."""
    holdout_random: EvaluationDone | None
    driven: float | None
    """Seconds of all drives together."""
    run_bytes: int
    buffer: str
    """Name of the teacher buffer; empty while it is not known."""
    buffer_bytes: int
    data: DataDetails | None
    """On the run's dataset; None where the workspace's record is missing, or of another dataset."""
    fingerprint: str
    """sha256 of the dataset; empty while it is not known."""
    origin: SetOrigin | None
    imported: ImportedBuffer | None
    made: float


def gather(workspace: Workspace, run: Run) -> Facts:
    """Read a run.

    Raises:
        TeslaError: its settings are damaged.
    """
    effective = run.frozen()
    settings = effective.settings
    feed = RunFeed(run)
    feed.catch_up()
    view = feed.view
    selected = selected_iteration(run, settings)
    best = view.best()
    if selected is None and best is not None:
        selected = best.iteration  # its checkpoints were removed
    found = [m for m in _measured(run) if m.result.subject == "random" or m.result.iteration == selected]
    found.sort(key=lambda m: (m.result.network != settings.network.name, m.result.network, m.result.subject))
    ours = {id(result) for result in own_results([(m.result, m.protocol) for m in found], settings)}
    own = [id(m.result) in ours for m in found]
    tests = [m for m, mine in zip(found, own, strict=True) if m.result.split == "test" and mine]
    others = [m for m, mine in zip(found, own, strict=True) if m.result.split == "test" and not mine]
    held = [m.result for m, mine in zip(found, own, strict=True) if m.result.split == "holdout" and mine]
    buffer = view.plan.buffer if view.plan else ""
    folder = workspace.folder / "buffers" / buffer
    return Facts(
        workspace=workspace,
        run=run,
        effective=effective,
        view=view,
        state=feed.state,
        selected=selected,
        unimproved=is_unimproved(run, settings, selected),
        tests=tests,
        others=others,
        holdout=next((r for r in held if r.subject == "distilled"), None),
        holdout_random=next((r for r in held if r.subject == "random"), None),
        driven=view.driven_seconds(time.time() if feed.live else None),
        run_bytes=_bytes(run.folder),
        buffer=buffer,
        buffer_bytes=_bytes(folder) if buffer else 0,
        data=_data(workspace, view),
        fingerprint=_fingerprint(workspace, run, folder),
        origin=_origin(run),
        imported=_imported(workspace, settings.teachers.buffer),
        made=time.time(),
    )


def _measured(run: Run) -> list[Measured]:
    return [Measured(result, protocol) for result, protocol in run.measured() if sound(result)]


def sound(result: EvaluationDone) -> bool:
    """Whether a result from a file has values of the right kind: the file may have been edited."""
    try:
        numbers = [result.mean, result.std, float(result.iteration), *result.accuracies]
        return all(map(math.isfinite, numbers)) and isinstance(result.network, str)
    except (TypeError, ValueError):
        return False


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # a temporary file of a run that is driven now
            continue
    return total


def _data(workspace: Workspace, view: RunView) -> DataDetails | None:
    """The workspace's record, if its sizes are those of the run."""
    details, run = read_details(workspace.folder), view.data
    if details is None or run is None:
        return None
    there = details.summary
    sizes = (there.train, there.test, there.classes, there.resolution)
    return details if sizes == (run.train + run.holdout, run.test, run.classes, run.resolution) else None


def _fingerprint(workspace: Workspace, run: Run, buffer: Path) -> str:
    """From the teachers' manifest, or what an evaluation of random images was measured on."""
    try:
        return str(read_json(buffer / "manifest.json")["identity"]["dataset"])
    except UnreadableFileError:
        raise
    except (OSError, TeslaError, KeyError, TypeError):
        pass
    for measured in _measured(run):
        if "dataset" in measured.protocol:
            return str(measured.protocol["dataset"])
    return ""


def _origin(run: Run) -> SetOrigin | None:
    try:
        return run.origin
    except CorruptFileError:
        return None


def _imported(workspace: Workspace, name: str | None) -> ImportedBuffer | None:
    try:
        return imported_buffer(workspace.folder / "buffers" / name) if name else None
    except UnreadableFileError:
        raise
    except TeslaError:
        return None

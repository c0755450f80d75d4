"""What a run's driver does about files left by a kill, or by a full or failing disk: the newest whole state is used.

A checkpoint is two files, and the record (.json) is renamed last; so one file alone is an interrupted
save or removal, or damage. The journal tells which: it records only whole saves. Damaged files are moved to a folder
`damaged` beside them, never deleted; interrupted files are removed, since they are recomputed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import CorruptFileError
from engine.events import CheckpointSaved, RunStopped
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.storage.atomic import disk, read_json, set_aside, sweep
from engine.storage.reading import exists, paths_in

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Half:
    """One file of a checkpoint without the other."""

    iteration: int
    path: Path
    """The file that exists."""
    lost: Path | None
    """The file that is missing by damage; None where a save or removal was interrupted."""


def orphaned_checkpoint_files(run: Run) -> list[Half]:
    """Checkpoints with only one file, by iteration."""
    folder = run.folder / "checkpoints"
    whole = run.checkpoints()
    newest = max(whole, default=-1)
    alone = sorted({int(path.stem) for path in paths_in(folder) if path.stem.isdigit() and len(path.suffixes) == 1})
    alone = [iteration for iteration in alone if iteration not in whole]
    saved = _saved(run) if alone else set()
    found = []
    for iteration in alone:
        tensors = run.checkpoint_path(iteration)
        record = tensors.with_suffix(".json")
        if exists(tensors):  # its record comes last in a save
            found.append(Half(iteration, tensors, record if iteration in saved else None))
        elif exists(record):  # its tensors go first in a removal, which takes place below newer ones
            found.append(Half(iteration, record, tensors if iteration > newest else None))
    return found


def _saved(run: Run) -> set[int]:
    """Iterations with a whole checkpoint in the journal."""
    events = (entry.event for entry, _ in read_journal(run.journal_file))
    return {
        event.iteration
        for event in events
        if isinstance(event, CheckpointSaved | RunStopped) and event.iteration is not None
    }


def clean_up(run: Run) -> list[str]:
    """Remove what dead writers left, set damaged halves and evaluations aside; what was done, as messages.

    Only for the run's driver.
    """
    words = []
    for folder in (*run.folders, run.folder / "exports"):
        sweep(folder)
    for half in orphaned_checkpoint_files(run):
        if half.lost is None:
            disk.remove_tree(half.path)
        else:
            words.append(
                f"{half.lost} is missing; the other half of this checkpoint was moved to {set_aside(half.path)}."
            )
    for path in paths_in(run.evaluation_folder, ".json"):
        try:
            read_json(path)
        except CorruptFileError as error:
            words.append(
                f"{error.message} It was moved to {set_aside(path)}; it is measured again if its checkpoint is kept."
            )
    return words


def newest_state(run: Run) -> "tuple[tuple[dict[str, Tensor], dict[str, Any]] | None, list[str]]":
    """The newest checkpoint that is whole, None if there is none; and messages about what was set aside.

    Damaged ones must not stay: by their number they would count among the newest, which are kept while older ones go.
    Only for the run's driver.
    """
    words: list[str] = []
    for iteration in reversed(run.checkpoints()):
        try:
            return run.load_checkpoint(iteration), words
        except CorruptFileError as error:
            words.append(
                f"{error.message} It was moved to {set_checkpoint_aside(run, iteration)}; an older one is used."
            )
    return None, words


def set_checkpoint_aside(run: Run, iteration: int) -> Path:
    """Move both files of a checkpoint to `damaged`; the folder."""
    tensors = run.checkpoint_path(iteration)
    for path in (tensors.with_suffix(".json"), tensors):  # first what makes it valid
        if exists(path) or path.is_symlink():
            set_aside(path)
    return tensors.parent / "damaged"

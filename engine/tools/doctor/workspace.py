"""A whole workspace: its settings, teachers, runs, and what killed processes left."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from engine.data import cached_dataset
from engine.errors import CorruptFileError, NewerFormatError, TeslaError, system_reason
from engine.runs.data_record import FILE as DATA
from engine.runs.data_record import check_record
from engine.runs.lease import acquire_run
from engine.runs.liveness import driver_alive
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings import settings_template
from engine.settings.sized import Counted
from engine.storage.atomic import write_bytes
from engine.storage.filesystem import format_bytes
from engine.storage.reading import exists, is_file, is_folder, paths_in
from engine.storage.temp_files import ASIDE, leftovers, set_aside
from engine.tools.doctor.finding import Examine, Finding, Lock, examined, left_by, looked
from engine.tools.doctor.runs import examine_run
from engine.tools.doctor.teachers import examine_buffer
from engine.training.teacher_buffer import TeacherBuffer

FORMERLY_COMPILED = ".compiled"
"""Where earlier versions kept the compiler's results."""
FROM_TOML = "tesla.toml"


def examine_workspace(folder: Path) -> list[Finding]:
    """Every file of a workspace, also of one that lost its tesla.toml.

    Raises:
        UsageError: not a workspace.
    """
    workspace = _opened(folder)
    undriven = partial(_undriven, workspace)
    findings = undriven(partial(_toml, workspace))
    findings += undriven(partial(_data_record, workspace))
    for buffer in paths_in(folder / "buffers"):
        if is_folder(buffer) and buffer.name != ASIDE:
            findings += looked(partial(examine_buffer, buffer, partial(_rebuilt, workspace, buffer), undriven))
    for run in workspace.runs():
        findings += looked(partial(examine_run, run))
    for path in leftovers(folder, deep=True):
        words = f"{path} was left by a process that has exited; nothing uses it"
        findings += examined(partial(left_by, "leftover", path, words))
    if is_folder(folder / FORMERLY_COMPILED):
        size = sum(path.stat().st_size for path in (folder / FORMERLY_COMPILED).rglob("*") if is_file(path))
        words = f"{format_bytes(size)} in {folder / FORMERLY_COMPILED}, from an earlier version: not used, delete it"
        findings.append(Finding(True, "compiler's cache", words))
    return findings


def runs_in(folder: Path) -> list[Run]:
    """The runs that `examine_workspace` examines.

    Raises:
        UsageError: not a workspace.
    """
    return _opened(folder).runs()


def _opened(folder: Path) -> Workspace:
    if not any(is_folder(folder / name) for name in ("runs", "buffers")):
        return Workspace(folder)
    workspace = Workspace.__new__(Workspace)  # without a look for tesla.toml
    workspace.folder = folder
    return workspace


def _toml(workspace: Workspace) -> list[Finding]:
    path = workspace.toml
    runs = workspace.runs()
    if is_file(path) and path.stat().st_size:
        try:
            workspace.settings()
        except TeslaError as error:
            return [Finding(False, FROM_TOML, str(error))]
        found = [Finding(True, FROM_TOML, "valid")]
        for run in runs:
            try:
                run.check(workspace.settings(run=run))
            except TeslaError as error:
                found.append(Finding(True, FROM_TOML, f"no longer matches the run {run.name}. {error}"))
        return found
    words = f"{path} is {'a folder' if is_folder(path) else 'empty' if exists(path) else 'missing'}."
    newest = max((run for run in runs if not run.broken), key=lambda run: run.last_change, default=None)
    if newest is None:
        return [
            Finding(False, FROM_TOML, f"{words} No run has a copy of its settings; create a new one with `tesla init`.")
        ]

    def repair() -> str:
        moved = f"Moved to {set_aside(path)}. " if exists(path) else ""
        effective = newest.frozen()
        active = {key for key, origin in effective.origins.items() if origin == FROM_TOML} | {"dataset.name"}
        counted = next(filter(None, map(Counted.from_origin, effective.origins.values())), None)
        write_bytes(path, settings_template(effective, active, counted).encode())
        return f"{moved}Restored from the settings of the run {newest.name}; please review it."

    return [Finding(False, FROM_TOML, f"{words} The run {newest.name} has a copy of its settings.", repair)]


def _data_record(workspace: Workspace) -> list[Finding]:
    path = workspace.folder / DATA
    if not exists(path) and not path.is_symlink():
        return []  # of an earlier version
    try:
        return [Finding(True, DATA, check_record(workspace.folder).words)]
    except NewerFormatError as error:
        return [Finding(False, DATA, str(error))]
    except (CorruptFileError, OSError) as error:
        words = error.message if isinstance(error, CorruptFileError) else f"{path}: {system_reason(error)}."

        def repair() -> str:
            return f"Moved to {set_aside(path)}; the next run writes a new one."

        return [Finding(False, DATA, words, repair)]


def _undriven(workspace: Workspace, examine: Examine, lock: Lock = nullcontext) -> list[Finding]:
    """Findings about a file of all runs, repaired only while none of them is driven: a driver may write it too.

    Args:
        workspace: whose runs.
        examine: see `examined`.
        lock: taken after all runs.
    """
    driven = [run.name for run in workspace.runs() if driver_alive(run)]
    if not driven:
        return examined(examine, partial(_all_taken, workspace, lock))
    later = f" The run {', '.join(driven)} is being driven now: stop it first."
    return [Finding(f.good, f.what, f.words + (later if f.repair else "")) for f in looked(examine)]


@contextmanager
def _all_taken(workspace: Workspace, lock: Lock) -> Iterator[None]:
    with ExitStack() as stack:
        for run in workspace.runs():
            stack.enter_context(run_to_end(acquire_run(run)))
        stack.enter_context(lock())
        yield


def _rebuilt(workspace: Workspace, folder: Path) -> bool:
    """Whether the manifest of a buffer could be rebuilt: a run's settings and the cached dataset give its identity,
    and the folder's name is the digest of that."""
    for run in workspace.runs():
        try:
            settings = run.frozen().settings
            dataset = cached_dataset(workspace.data_request(settings))
        except (TeslaError, OSError):
            continue
        if dataset is None:
            continue
        identity = json.loads(json.dumps(workspace.buffer_identity(settings, dataset)))
        if workspace.buffer_folder(settings, identity) == folder:
            TeacherBuffer(folder, identity).open()
            return True
    return False

"""One run: settings, journal, checkpoints, evaluations, film, exports, and the small files of its driver."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.errors import (
    CorruptFileError,
    NewerFormatError,
    SettingsError,
    TeslaError,
    UnreadableFileError,
    UsageError,
    system_reason,
    tesla,
)
from engine.events import EvaluationDone, Notice
from engine.runs.heartbeat import read_heartbeat
from engine.runs.journal import JournalWriter, repair_journal, unread_lines
from engine.runs.lease import RunLease, acquire_run
from engine.runs.liveness import DRIVER, LOCK, driver_alive, driver_of
from engine.runs.preview_frames import frame_iterations, frame_path, frame_problem
from engine.runs.recovery import orphaned_checkpoint_files, set_checkpoint_aside
from engine.runs.run import NOWHERE, Run
from engine.runtime.generators import run_to_end
from engine.settings import settings_to_toml
from engine.storage.atomic import read_json, write_bytes
from engine.storage.checksums import SUMS, sum_problems
from engine.storage.holder import UNKNOWN
from engine.storage.reading import exists, is_file, is_folder, paths_in
from engine.storage.temp_files import ASIDE, set_aside
from engine.tools.doctor.finding import Examine, Finding, damaged, examined, left, lock_folder, looked

OLDER = "An older checkpoint is used, and the iterations after it are repeated."


def examine_run(run: Run) -> list[Finding]:
    """Every file of a run. While a process drives it nothing is repaired, and its driver's files are not examined.

    Where it is not known whether a driver on another machine is alive, the repair finds out: it takes the run's lock.
    """
    what = f"run {run.name}"
    driven = driver_alive(run)
    parts: list[Examine] = [partial(_settings, run, what)]
    lost = settings_lost(run)
    if not lost:  # else it is repaired as a whole
        parts += _parts(run, what)
    if driven:
        later = "It is running now: repair it after it stops."
        found = [finding for part in parts for finding in looked(part)]
        found = [Finding(f.good, f.what, f.words if f.good else f"{f.words} {later}") for f in found]
    else:
        take = partial(_take, run)
        found = [finding for part in parts for finding in examined(part, take)]
        if lost:
            return found
        found += examined(partial(_record, run, what))
        found += examined(partial(_heartbeat, run, what, driven), take)
        found += examined(partial(lock_folder, what, run.folder / LOCK))
    if all(finding.good for finding in found):
        words = f"{len(run.checkpoints())} checkpoints, {len(run.evaluations())} evaluations, all whole"
        found.insert(0, Finding(True, what, words))
    return found


def settings_lost(run: Run) -> bool:
    """Whether neither the settings' file nor the journal has a run's settings."""
    try:
        run.frozen()
    except SettingsError:
        return True
    except TeslaError:
        pass  # of a newer version, or not to be read now
    return False


def _parts(run: Run, what: str) -> Iterator[Examine]:
    """What else is examined while it is driven, too: a part for each file that has checksums of its own."""
    yield partial(_journal, run, what)
    checkpoints = run.checkpoints()
    for iteration in checkpoints:
        yield partial(_checkpoint, run, what, iteration)
    yield partial(_halves, run, what)
    for path in paths_in(run.evaluation_folder, ".json"):
        yield partial(_evaluation, what, path)
    for iteration in frame_iterations(run.film):
        yield partial(_frame, what, frame_path(run.film, iteration), needed=iteration in checkpoints)
    exports = run.folder / "exports"
    for path in sorted(exports.iterdir()) if is_folder(exports) else ():
        yield partial(_export, run, what, path)


def _settings(run: Run, what: str) -> Iterator[Finding]:
    words = run.settings_damage
    if not words:
        return

    def repair() -> str:
        toml = run.folder.parents[1] / "tesla.toml"
        if not (is_file(toml) and toml.stat().st_size):  # the journal has the values; their origins follow from it
            raise UsageError(f"{toml} is empty or missing, and must be restored first; nothing was changed.")
        effective = run.frozen()
        moved = f"Moved to {set_aside(run.settings_file)}. " if exists(run.settings_file) else ""
        write_bytes(run.settings_file, settings_to_toml(effective).encode())
        return f"{moved}Restored from the journal."

    if settings_lost(run):
        aside = run.folder.parent / ASIDE
        then = f"Its repair moves the run to {aside}; nothing of it is deleted. Or start another run beside it."
        yield damaged(what, f"{words} {NOWHERE}", run.folder, then=then)
    else:
        yield Finding(False, what, f"{words} The journal has the same settings.", repair)


def _journal(run: Run, what: str) -> Iterator[Finding]:
    path = run.journal_file
    if not is_file(path):
        if not exists(path) and not run.checkpoints():
            return  # killed before its first line
        words = (
            f"{path} {'is a folder' if exists(path) else 'is missing'}: the run's history is lost; its state is not."
        )
        yield Finding(False, what, words, lambda: _begin_anew(path))
        return
    if path.stat().st_size == 0 and run.checkpoints():
        words = "is empty: the run's history is lost; its state is not."
        yield Finding(False, what, f"{path} {words}", lambda: _begin_anew(path))
        return
    try:
        unread = unread_lines(path)
    except CorruptFileError as error:  # huge, and nearly all hole
        words = f"{error.message} The run's history is lost; its state is not."
        yield Finding(False, what, words, lambda: _begin_anew(path))
        return
    if unread.altered:
        yield Finding(
            False, what, f"{path}: {unread.altered} lines are damaged or missing; readers skip them.",
            lambda: f"The whole journal is kept as {repair_journal(path)}; the new one has every readable line.",
        )  # fmt: skip
    elif unread.torn:
        yield Finding(
            True, what, f"{path}: {unread.torn} lines were cut off when a process was killed; readers skip them"
        )


def _begin_anew(path: Path) -> str:
    moved = f"Moved to {set_aside(path)}. " if exists(path) and not _is_empty(path) else ""
    JournalWriter(path).append(Notice(level="warning", message="The history before this was lost."))
    return f"{moved}A new journal starts."


def _is_empty(path: Path) -> bool:
    return is_file(path) and path.stat().st_size == 0


def _checkpoint(run: Run, what: str, iteration: int) -> Iterator[Finding]:
    if iteration not in run.checkpoints():
        return  # removed since
    try:
        run.load_checkpoint(iteration)
    except NewerFormatError as error:
        yield Finding(False, what, str(error))
    except CorruptFileError as error:
        yield Finding(False, what, f"{error.message} {OLDER}", partial(_checkpoint_aside, run, iteration))


def _halves(run: Run, what: str) -> Iterator[Finding]:
    for half in orphaned_checkpoint_files(run):
        if half.lost is None:
            words = f"{half.path} is half of a checkpoint: its save or removal was interrupted; nothing uses it"
            yield left(what, half.path, words=words)
        else:
            yield damaged(what, f"{half.lost} is missing.", half.path, then=OLDER)


def _checkpoint_aside(run: Run, iteration: int) -> str:
    return f"Moved to {set_checkpoint_aside(run, iteration)}."


def _evaluation(what: str, path: Path) -> Iterator[Finding]:
    try:
        EvaluationDone(**read_json(path)["result"])
    except FileNotFoundError:
        return  # removed since
    except CorruptFileError as error:
        words = error.message
    except (KeyError, TypeError):
        words = f"{path} is not an evaluation."
    else:
        return
    yield damaged(what, words, path, then="`tesla run` or `tesla evaluate` measures it again.")


def _frame(what: str, path: Path, *, needed: bool) -> Iterator[Finding]:
    words = frame_problem(path)
    if words:
        found = damaged(what, words, path, then="It is only a preview; nothing else needs it.")
        # Those between checkpoints are not synced: a power cut may leave one without contents.
        yield found if needed else Finding(True, what, found.words, found.repair)


def _export(run: Run, what: str, path: Path) -> Iterator[Finding]:
    if is_file(path / SUMS):
        problems = sum_problems(path)
        if problems:
            again = tesla("export", run.folder.parents[1], "--run", run.name, "--to", path)
            yield damaged(what, f"{'; '.join(problems)}.", path, then=f"Export it again with: {again}")
    elif exists(path / "recipe.json"):
        yield Finding(True, what, f"{path} has no {SUMS}; it cannot be checked")


def _record(run: Run, what: str) -> Iterator[Finding]:
    note = run.folder / DRIVER
    if driver_of(run) != UNKNOWN:
        return
    try:
        read_json(note)
        words = f"{note} is not the record of a driver."
    except UnreadableFileError:
        raise
    except TeslaError as error:
        words = error.message
    except OSError as error:
        words = f"{note} cannot be read ({system_reason(error)})."

    def repair() -> str:
        with _take(run):  # moves it aside, and leaves a record of its own
            return f"Moved to {run.folder / ASIDE}."

    yield Finding(False, what, f"{words} It only records who drove the run last.", repair)


def _heartbeat(run: Run, what: str, driven: bool | None) -> Iterator[Finding]:
    path = run.heartbeat_file
    if is_folder(path):
        yield damaged(what, f"{path} is a folder.", path)
    elif exists(path):  # not synced: a power cut may leave one without contents
        kind = "an unreadable" if read_heartbeat(path) is None else "a"
        words = f"{kind} heartbeat file ({path}), left by a driver that "
        words += "was killed" if driven is False else "gives no heartbeat, or that still runs elsewhere"
        yield left(what, path, words=words)


def _take(run: Run) -> RunLease:
    return run_to_end(acquire_run(run))
